//! Answers that say no, in OpenAI's shape.

use serde_json::json;

/// An error status with its body.
#[derive(Debug)]
pub struct Refusal {
    pub status: u16,
    pub kind: &'static str,
    pub code: Option<&'static str>,
    pub param: Option<&'static str>,
    pub message: String,
    pub retry_after_s: Option<u64>,
}

impl Refusal {
    pub fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, code: None, param: None, message: message.into(), retry_after_s: None }
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request_error", message)
    }

    pub fn bad_body(error: &serde_json::Error) -> Self {
        Self::bad_request(format!("The request body cannot be read: {error}"))
    }

    pub fn bad_field(param: &'static str, rule: &str) -> Self {
        Self { param: Some(param), ..Self::bad_request(format!("{param} {rule}")) }
    }

    pub fn not_found(path: &str) -> Self {
        let message = format!(
            "Nothing is here at {path}. The simulator offers /v1/chat/completions, /v1/messages, /v1/embeddings and \
             /v1/models, the same below /d/NAME, and /sim/config, /sim/outage, /sim/reset, /sim/journal and /sim/stats."
        );
        Self::new(404, "invalid_request_error", message)
    }

    pub fn method(allowed: &str) -> Self {
        Self::new(405, "invalid_request_error", format!("Use {allowed} here"))
    }

    pub fn wrong_key() -> Self {
        Self {
            code: Some("invalid_api_key"),
            ..Self::new(401, "invalid_request_error", "The API key is missing or wrong")
        }
    }

    pub fn throttled(status: u16, retry_after_s: Option<u64>) -> Self {
        let (kind, code, message) = match status {
            429 => ("requests", Some("rate_limit_exceeded"), "Rate limit reached; slow down"),
            529 => ("overloaded_error", None, "Overloaded; try again later"),
            _ => ("server_error", None, "The provider is in an outage"),
        };
        Self { code, retry_after_s, ..Self::new(status, kind, message) }
    }

    pub fn server_error() -> Self {
        Self::new(500, "server_error", "The server had an error while processing the request")
    }

    pub fn body(&self) -> Vec<u8> {
        let error = json!({
            "error": {
                "message": self.message,
                "type": self.kind,
                "param": self.param,
                "code": self.code,
            }
        });
        error.to_string().into_bytes()
    }
}
