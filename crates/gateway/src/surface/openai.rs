//! OpenAI's form of an error: `{"error":{"message","type","param","code"}}`.

use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::problem::{Kind, Problem};

pub struct Failure(pub Problem);

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl Failure {
    pub fn json(&self) -> Value {
        let Problem { kind, detail, members, .. } = &self.0;
        let message = if detail.is_empty() { kind.title() } else { detail };
        let code = match kind {
            Kind::Unauthorized => "invalid_api_key",
            Kind::UnknownModel => "model_not_found",
            Kind::Limited => "rate_limit_exceeded",
            other => other.code(),
        };
        let family = match kind.status().as_u16() {
            429 => "rate_limit_error",
            402 => "insufficient_quota",
            403 => "permission_error",
            400..500 => "invalid_request_error",
            _ => "server_error",
        };
        let param = members.get("param").cloned().unwrap_or(Value::Null);
        let mut error = json!({ "message": message, "type": family, "param": param, "code": code });
        if let (Kind::BudgetExceeded, Value::Object(error)) = (kind, &mut error) {
            error.extend(members.clone());
        }
        json!({ "error": error })
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        self.0.respond("application/json", &self.json())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_openais_form() {
        let unknown = Problem::new(Kind::UnknownModel, "There is no model \"gpt-9\".").with("param", "model");
        insta::assert_json_snapshot!("unknown_model", Failure(unknown).json());
        let limited = Problem::new(Kind::Limited, "Team search has all its 8 slots in use.");
        insta::assert_json_snapshot!("limited", Failure(limited).json());
    }

    /// What SDKs raise follows from the status and the type together.
    #[test]
    fn every_kind_has_a_family() {
        for kind in Kind::ALL {
            let json = Failure(Problem::new(*kind, "x")).json();
            let is_ours = json["error"]["type"] == "server_error";
            assert_eq!(is_ours, kind.status().is_server_error(), "{kind:?}");
        }
    }
}
