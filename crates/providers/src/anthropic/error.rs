//! Errors in the form that OpenAI's clients read.

use bytes::Bytes;
use domain::ErrorClass;
use serde_json::{Value, json};

use super::fields::Untranslatable;
use crate::{client::name, error::CallError, target::Target};

/// `error` with the provider's words in OpenAI's form. A body that is no error object of Anthropic's stays as it is.
pub(super) fn in_openai_form(mut error: CallError) -> CallError {
    error.body = error.body.map(|body| translated(&body).unwrap_or(body));
    error
}

fn translated(body: &[u8]) -> Option<Bytes> {
    let body: Value = serde_json::from_slice(body).ok()?;
    if body["type"] != "error" {
        return None;
    }
    let error = body["error"].as_object()?;
    let member = |name: &str| error.get(name).cloned().unwrap_or_default();
    let form = json!({"message": member("message"), "type": member("type"), "param": null, "code": null});
    Some(json!({"error": form}).to_string().into())
}

/// The refusal of a request that was not sent. It names the field, and quotes no value of the body.
pub(super) fn untranslatable(cause: &Untranslatable, target: &Target) -> CallError {
    let field = name(Some(&cause.field)).unwrap_or_default();
    let message =
        format!("deployment {} is of kind anthropic: {field} {}; the call was not sent", target.name, cause.why);
    let mut error = CallError::new(ErrorClass::InvalidRequest, message);
    let form = json!({
        "message": error.message, "type": "invalid_request_error", "param": field, "code": "unsupported_parameter",
    });
    error.body = Some(json!({"error": form}).to_string().into());
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expected: &str) {
        let mut error = CallError::new(ErrorClass::InvalidRequest, "x");
        error.body = Some(Bytes::copy_from_slice(body.as_bytes()));
        assert_eq!(in_openai_form(error).body.unwrap(), expected.as_bytes());
    }

    #[test]
    fn the_providers_words_come_in_openais_form() {
        check(
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long"},"request_id":"req_1"}"#,
            r#"{"error":{"message":"prompt is too long","type":"invalid_request_error","param":null,"code":null}}"#,
        );
        for other in [
            r#"{"error":{"message":"a proxy's","code":"x"}}"#,
            r#"{"type":"error","error":"text"}"#,
            r#"{"detail":"no"}"#,
        ] {
            check(other, other);
        }
    }
}
