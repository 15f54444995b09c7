//! An answer that says no: its class, how long to wait, and the provider's words with the credential taken out.

use bytes::Bytes;
use chrono::Utc;
use domain::ErrorClass;
use memchr::memmem;
use secrecy::ExposeSecret;
use serde_json::value::RawValue;

use super::{body::whole, retry_after::retry_after, said::Said, send::Reply, status::class_of};
use crate::{error::CallError, target::Target};

/// The longest error body that is kept, in bytes.
const LONGEST: usize = 64 << 10;

/// `Ok` when the answer's status is one of success; otherwise reads what the provider says about it.
pub(crate) async fn refused(mut reply: Reply, target: &Target) -> Result<Reply, CallError> {
    let status = reply.status();
    let Some(by_status) = class_of(status) else {
        return Ok(reply);
    };
    let wait = retry_after(reply.response.headers(), Utc::now());
    // The status says enough: a body that is late, cut or too long is done without.
    let body = whole(&mut reply, target, LONGEST).await.ok();
    let said = body.as_deref().and_then(object).map(|raw| Said::of(raw, target)).unwrap_or_default();
    let class = said.class_under(status).unwrap_or(by_status);
    let mut error = reply.blame(CallError::new(class, message(class, status, &said, target)));
    error.retry_after = wait;
    error.body = body.filter(|_| is_for_callers(class)).and_then(|body| told(body, target));
    Err(error)
}

/// Details of the operator's key or account are not shown to callers.
fn is_for_callers(class: ErrorClass) -> bool {
    !matches!(class, ErrorClass::Credential | ErrorClass::QuotaExhausted)
}

fn message(class: ErrorClass, status: u16, said: &Said, target: &Target) -> String {
    let (name, model) = (&target.name, &target.model);
    match class {
        _ if (300..400).contains(&status) => {
            format!("deployment {name} answered {status}, a redirect; base_url must be the final address")
        }
        ErrorClass::Credential => {
            format!("deployment {name} answered {status}: it refuses the operator's credential")
        }
        ErrorClass::QuotaExhausted => format!(
            "deployment {name} answered {status}{said}: the operator's account has no quota or credit left; waiting does not mend it"
        ),
        ErrorClass::ModelNotFound => format!(
            "deployment {name} answered {status}{said}: the provider does not know the model {model}, or base_url is wrong"
        ),
        ErrorClass::Forbidden => {
            format!(
                "deployment {name} answered {status}{said}, and does not say whether the key or the request is refused"
            )
        }
        ErrorClass::RefusedContent => format!("deployment {name} answered {status}{said}: it refuses this content"),
        _ => format!("deployment {name} answered {status}{said}"),
    }
}

/// An `error` object inside a good answer, whose whole body is `body`.
pub(crate) fn error_inside(error: &RawValue, body: Bytes, target: &Target) -> CallError {
    let said = Said::of(error, target);
    let class = said.class();
    let mut call_error = CallError::new(class, format!("deployment {} answered 200 with an error{said}", target.name));
    call_error.body =
        Some(body).filter(|body| is_for_callers(class) && body.len() <= LONGEST).and_then(|body| told(body, target));
    call_error
}

/// Whether an error `body` under `status` names a cause. A server that rejects an unknown member often only repeats the status.
pub(crate) fn is_explained(body: &[u8], status: u16) -> bool {
    object(body).is_some_and(|raw| Said::about(raw).is_explained(status))
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
        check(r#"{"code":"insufficient_quota"}"#, ErrorClass::QuotaExhausted, " (insufficient_quota)");
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
        let words = Said::of(object(&body).unwrap(), &target).to_string();
        let kept = told(body, &target).unwrap();
        assert_eq!(kept, &br#"{"error":{"message":"[redacted] may not","code":"[redacted]"}}"#[..]);
        assert_eq!(words, "");
        assert_eq!(told(Bytes::from_static(b"<html>"), &target), None);
    }
}
