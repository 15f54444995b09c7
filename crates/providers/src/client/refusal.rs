//! An answer that says no: its class, how long to wait, and the provider's words with the credential taken out.

use bytes::Bytes;
use chrono::Utc;
use domain::ErrorClass;
use memchr::memmem;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{body::whole, retry_after::retry_after, send::Reply, status::class_of};
use crate::{error::CallError, target::Target};

/// The longest error body that is kept, in bytes.
const LONGEST: usize = 64 << 10;

/// `Ok` when the answer's status is 2xx; otherwise reads what the provider says about it.
pub(crate) async fn refused(mut reply: Reply, target: &Target) -> Result<Reply, CallError> {
    let status = reply.status();
    let Some(class) = class_of(status) else {
        return Ok(reply);
    };
    let wait = retry_after(reply.response.headers(), Utc::now());
    // The status says enough: a body that is late, cut or too long is done without.
    let body = whole(&mut reply, target, LONGEST).await.ok();
    let words = body.as_deref().and_then(object).map(|raw| Words::of(raw, target));
    let message = match class {
        _ if (300..400).contains(&status) => {
            format!("deployment {} answered {status}, a redirect; base_url must be the final address", target.name)
        }
        ErrorClass::Credential => {
            format!("deployment {} answered {status}: it refuses the operator's credential or account", target.name)
        }
        _ => format!("deployment {} answered {status}{}", target.name, words.unwrap_or_default()),
    };
    let mut error = reply.blame(CallError::new(class, message));
    error.retry_after = wait;
    // What is wrong with the credential is for the operator, not for whoever made the call.
    error.body = body.filter(|_| class != ErrorClass::Credential).and_then(|body| told(body, target));
    Err(error)
}

/// An `error` object inside a good answer, whose whole body is `body`.
pub(crate) fn error_inside(error: &RawValue, body: Bytes, target: &Target) -> CallError {
    let words = Words::of(error, target);
    let class = words.class();
    let mut call_error = CallError::new(class, format!("deployment {} answered 200 with an error{words}", target.name));
    call_error.body = Some(body)
        .filter(|body| class != ErrorClass::Credential && body.len() <= LONGEST)
        .and_then(|body| told(body, target));
    call_error
}

/// `body` for the result line: a JSON object without the credential.
fn told(body: Bytes, target: &Target) -> Option<Bytes> {
    object(&body)?;
    let Some(secret) = &target.credential else {
        return Some(body);
    };
    let secret = secret.expose_secret();
    if memmem::find(&body, secret.as_bytes()).is_none() {
        return Some(body);
    }
    let text = std::str::from_utf8(&body).ok()?;
    Some(text.replace(secret, "[redacted]").into())
}

fn object(body: &[u8]) -> Option<&RawValue> {
    let raw: &RawValue = serde_json::from_slice(body).ok()?;
    raw.get().starts_with('{').then_some(raw)
}

/// The short words of an error object, which name the fault and quote nothing: its status, type and code.
#[derive(Default)]
struct Words {
    status: Option<u16>,
    words: Vec<String>,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    status: Option<&'a RawValue>,
}

impl Words {
    /// Of `{"error":{…}}` or of the inner object itself.
    fn of(raw: &RawValue, target: &Target) -> Self {
        let Ok(outer) = serde_json::from_str::<Wire<'_>>(raw.get()) else {
            return Self::default();
        };
        let inner = outer.error.and_then(|raw| serde_json::from_str::<Wire<'_>>(raw.get()).ok()).unwrap_or(outer);
        let status = inner.code.or(inner.status).and_then(|raw| raw.get().trim_matches('"').parse().ok());
        let status = status.filter(|status| (400..600).contains(status));
        let words = [inner.kind, inner.code].into_iter().flatten().filter_map(|raw| word(raw, target)).collect();
        Self { status, words }
    }

    /// Whose fault an error without a status of its own is.
    fn class(&self) -> ErrorClass {
        if let Some(class) = self.status.and_then(class_of) {
            return class;
        }
        let says = |part: &str| self.words.iter().any(|word| word.to_ascii_lowercase().contains(part));
        if says("rate_limit") || says("quota") || says("too_many") {
            ErrorClass::Throttled
        } else if says("overloaded") || says("unavailable") {
            ErrorClass::Overloaded
        } else if says("authentication") || says("permission") || says("api_key") {
            ErrorClass::Credential
        } else if says("invalid_request") || says("context_length") || says("content_policy") {
            ErrorClass::InvalidRequest
        } else {
            ErrorClass::ServerError
        }
    }
}

impl std::fmt::Display for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.words.is_empty() { Ok(()) } else { write!(f, " ({})", self.words.join(", ")) }
    }
}

/// An identifier such as `rate_limit_exceeded`; free text might quote the prompt.
fn word(raw: &RawValue, target: &Target) -> Option<String> {
    let word = raw.get().trim_matches('"');
    let fits = !word.is_empty()
        && word != "null"
        && word.len() <= 64
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    let secret = target.credential.as_ref().is_some_and(|secret| word.contains(secret.expose_secret()));
    (fits && !secret).then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::tests::deployment;

    fn check(error: &str, class: ErrorClass, message_end: &str) {
        let target = Target::resolve("d", &deployment("http://x")).unwrap();
        let raw: &RawValue = serde_json::from_str(error).unwrap();
        let got = error_inside(raw, Bytes::from_static(b"{}"), &target);
        assert_eq!(got.class, class, "{error}");
        assert_eq!(got.message, format!("deployment d answered 200 with an error{message_end}"));
    }

    #[test]
    fn an_error_inside_a_good_answer_has_a_class() {
        check(r#"{"type":"rate_limit_error"}"#, ErrorClass::Throttled, " (rate_limit_error)");
        check(r#"{"code":429,"message":"slow down"}"#, ErrorClass::Throttled, " (429)");
        check(r#"{"code":"502"}"#, ErrorClass::ServerError, " (502)");
        check(r#"{"type":"overloaded_error","code":null}"#, ErrorClass::Overloaded, " (overloaded_error)");
        check(r#"{"type":"invalid_request_error"}"#, ErrorClass::InvalidRequest, " (invalid_request_error)");
        check(r#"{"code":"invalid_api_key"}"#, ErrorClass::Credential, " (invalid_api_key)");
        check(r#"{"type":"a sentence with the prompt"}"#, ErrorClass::ServerError, "");
        check(r#""model not loaded""#, ErrorClass::ServerError, "");
    }

    #[test]
    fn the_credential_is_cut_out_of_what_the_provider_says() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "sk-secret").unwrap();
        let credential = Some(format!("file:{}", file.path().display()));
        let deployment = domain::Deployment { credential, ..deployment("http://x") };
        let target = Target::resolve("d", &deployment).unwrap();
        let body = Bytes::from_static(br#"{"error":{"message":"sk-secret may not","code":"sk-secret"}}"#);
        let words = Words::of(object(&body).unwrap(), &target).to_string();
        let kept = told(body, &target).unwrap();
        assert_eq!(kept, &br#"{"error":{"message":"[redacted] may not","code":"[redacted]"}}"#[..]);
        assert_eq!(words, "");
        assert_eq!(told(Bytes::from_static(b"<html>"), &target), None);
    }
}
