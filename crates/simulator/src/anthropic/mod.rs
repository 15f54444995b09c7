//! Anthropic's wire format: what is read from a request for a message, the message, its events, and errors.

mod message;
mod request;

pub use message::Message;
pub use request::MessagesRequest;

use hyper::HeaderMap;
use serde_json::json;

use crate::wire::refusal::Refusal;

/// The key that a call presents: Anthropic's own header, or the one that most providers take.
pub fn key(headers: &HeaderMap) -> Option<&str> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    text("x-api-key").or_else(|| text("authorization")?.strip_prefix("Bearer "))
}

/// Anthropic refuses calls that do not name the version of the format.
pub fn check_version(headers: &HeaderMap) -> Result<(), Refusal> {
    match headers.contains_key("anthropic-version") {
        true => Ok(()),
        false => Err(Refusal::bad_request("anthropic-version: header is required")),
    }
}

/// `refusal`'s body as Anthropic writes it. Of a 403 that is only configured, it does not say that the key is at fault.
pub fn error_body(refusal: &Refusal) -> Vec<u8> {
    let kind = match refusal.status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": refusal.message}}).to_string().into_bytes()
}
