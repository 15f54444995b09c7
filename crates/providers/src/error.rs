//! Why a call gave no answer.

use std::{fmt, time::Duration};

use bytes::Bytes;
use domain::{ErrorClass, Usage};

const LONGEST_MESSAGE: usize = 512;

/// `class` says what the caller can do; the rest is for the ledger, the result line and people.
#[derive(Clone, thiserror::Error)]
#[error("{message}")]
pub struct CallError {
    pub class: ErrorClass,
    /// Of the provider's answer, when there was one.
    pub http_status: Option<u16>,
    /// How long the provider asked to be left alone, at most an hour.
    pub retry_after: Option<Duration>,
    /// One sentence of at most 512 characters, without any part of the prompt, the answer or a credential.
    pub message: String,
    /// The provider's whole answer when it is a JSON object of at most 64 KiB that says what is wrong, for the result line:
    /// it may quote the prompt, never the credential. Absent when the credential was refused.
    pub body: Option<Bytes>,
    /// Tokens that the provider counted although the call failed.
    pub usage: Option<Usage>,
    pub provider_request_id: Option<String>,
}

impl CallError {
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        let mut message: String = message.into();
        if let Some((end, _)) = message.char_indices().nth(LONGEST_MESSAGE) {
            message.truncate(end);
        }
        Self {
            class,
            http_status: None,
            retry_after: None,
            message,
            body: None,
            usage: None,
            provider_request_id: None,
        }
    }
}

/// Without the provider's words: it may be logged.
impl fmt::Debug for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallError")
            .field("class", &self.class)
            .field("http_status", &self.http_status)
            .field("retry_after", &self.retry_after)
            .field("message", &self.message)
            .field("body_bytes", &self.body.as_ref().map(Bytes::len))
            .field("usage", &self.usage)
            .field("provider_request_id", &self.provider_request_id)
            .finish()
    }
}

/// The innermost error, which names the fault and neither URL nor header.
pub(crate) fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = match std::error::Error::source(error) {
        Some(source) => source,
        None => return "the request could not be built".into(),
    };
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_bounded_and_whole_characters() {
        let error = CallError::new(ErrorClass::Unknown, "ü".repeat(2_000));
        assert_eq!(error.message, "ü".repeat(LONGEST_MESSAGE));
    }

    #[test]
    fn debug_output_holds_no_body() {
        let mut error = CallError::new(ErrorClass::InvalidRequest, "refused");
        error.body = Some(Bytes::from_static(b"{\"error\":\"the prompt\"}"));
        assert!(!format!("{error:?} {error}").contains("prompt"));
    }
}
