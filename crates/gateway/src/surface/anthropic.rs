//! Anthropic's form of an error: `{"type":"error","error":{"type","message"}}`.

use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::problem::Problem;

pub struct Failure(pub Problem);

impl Failure {
    pub fn json(&self) -> Value {
        let Problem { kind, detail, .. } = &self.0;
        let message = if detail.is_empty() { kind.title() } else { detail };
        let family = match kind.status().as_u16() {
            401 => "authentication_error",
            402 => "billing_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            503 => "overloaded_error",
            504 => "timeout_error",
            400..500 => "invalid_request_error",
            _ => "api_error",
        };
        json!({ "type": "error", "error": { "type": family, "message": message } })
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        self.0.respond("application/json", &self.json())
    }
}
