//! Errors as callers see them: RFC 9457 `application/problem+json` on native routes; `openai::Failure` gives the same
//! problem OpenAI's form. No prompt and no key is ever in one.

use std::{fmt, time::Duration};

use admission::budgets::{Refusal, Why};
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use engine::admit::AuthError;
use serde_json::{Map, Value, json};

macro_rules! kinds {
    ($($(#[$meta:meta])* $kind:ident = $status:ident, $code:literal, $title:literal;)+) => {
        /// What went wrong, as a program tells it apart. Codes are a contract and never change their meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind { $($(#[$meta])* $kind),+ }

        impl Kind {
            pub const ALL: &'static [Self] = &[$(Self::$kind),+];

            pub fn status(self) -> StatusCode {
                match self { $(Self::$kind => StatusCode::$status),+ }
            }
            pub fn code(self) -> &'static str {
                match self { $(Self::$kind => $code),+ }
            }
            pub fn title(self) -> &'static str {
                match self { $(Self::$kind => $title),+ }
            }
        }
    };
}

kinds! {
    BadRequest = BAD_REQUEST, "bad_request", "The request is malformed";
    Unauthorized = UNAUTHORIZED, "unauthorized", "The API key is missing or not valid";
    BudgetExceeded = PAYMENT_REQUIRED, "budget_exceeded", "It does not fit into what is left of a budget";
    Forbidden = FORBIDDEN, "forbidden", "The API key may not do this";
    /// Also for what exists but belongs to another team.
    NotFound = NOT_FOUND, "not_found", "Not found";
    UnknownModel = NOT_FOUND, "unknown_model", "There is no such model";
    MethodNotAllowed = METHOD_NOT_ALLOWED, "method_not_allowed", "The path does not take this method";
    Gone = GONE, "gone", "It was there and is no longer";
    Timeout = REQUEST_TIMEOUT, "request_timeout", "The request did not arrive in time";
    Conflict = CONFLICT, "conflict", "The present state does not allow this";
    ManagedByFile = CONFLICT, "managed_by_file", "The configuration file manages this";
    UploadUnderWay = CONFLICT, "upload_under_way", "A submission with this Idempotency-Key is under way";
    TooLarge = PAYLOAD_TOO_LARGE, "too_large", "The body is too large";
    UnsupportedMedia = UNSUPPORTED_MEDIA_TYPE, "unsupported_media", "The body's type or encoding is not taken";
    Invalid = UNPROCESSABLE_ENTITY, "invalid", "The request cannot be taken as it is";
    BadLine = UNPROCESSABLE_ENTITY, "bad_line", "A line of the job cannot be taken; nothing of it was";
    KeyReused = UNPROCESSABLE_ENTITY, "idempotency_key_reused", "The Idempotency-Key was used for another submission";
    Limited = TOO_MANY_REQUESTS, "limited", "A limit is reached";
    Internal = INTERNAL_SERVER_ERROR, "internal", "Tollway failed";
    Provider = BAD_GATEWAY, "provider_error", "The provider failed";
    Unavailable = SERVICE_UNAVAILABLE, "unavailable", "Not available now";
    /// These three are named as in result lines and in the ledger.
    ConnectTimeout = GATEWAY_TIMEOUT, "connect_timeout", "The provider could not be connected to in time";
    ReadTimeout = GATEWAY_TIMEOUT, "read_timeout", "The provider fell silent";
    TotalTimeout = GATEWAY_TIMEOUT, "total_timeout", "The provider took too long";
}

#[derive(Debug, Clone)]
pub struct Problem {
    pub kind: Kind,
    /// What happened this time, and what the caller can do.
    pub detail: String,
    pub retry_after: Option<Duration>,
    /// Further members: `line`, `reason`, `param`, `known`, …
    pub members: Map<String, Value>,
}

impl Problem {
    pub fn new(kind: Kind, detail: impl fmt::Display) -> Self {
        Self { kind, detail: detail.to_string(), retry_after: None, members: Map::new() }
    }

    /// `what` as in "job job_0abc"; the same words whether it does not exist or is another team's.
    pub fn not_found(what: impl fmt::Display) -> Self {
        Self::new(Kind::NotFound, format_args!("There is no {what}."))
    }

    /// Our own failure: the log has the reason, the caller does not.
    pub fn internal(error: impl fmt::Display) -> Self {
        tracing::error!(%error, "A request failed");
        Self::new(Kind::Internal, "The failure is in Tollway's log.")
    }

    pub fn unavailable(detail: impl fmt::Display) -> Self {
        Self::new(Kind::Unavailable, detail).retry_after(Duration::from_secs(5))
    }

    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.members.insert(member.to_owned(), value.into());
        self
    }

    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    pub fn json(&self) -> Value {
        let mut body = json!({
            "type": format!("urn:tollway:problem:{}", self.kind.code()),
            "title": self.kind.title(),
            "status": self.kind.status().as_u16(),
            "code": self.kind.code(),
            "detail": self.detail,
        });
        if let Value::Object(body) = &mut body {
            body.extend(self.members.clone());
        }
        body
    }

    /// A response with this problem's status and headers.
    pub fn respond(&self, content_type: &'static str, body: &Value) -> Response {
        let mut response = (self.kind.status(), body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(wait) = self.retry_after {
            // Whole seconds, rounded up: a client that comes back too early is refused again.
            let seconds = wait.as_millis().div_ceil(1000).max(1) as u64;
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.kind == Kind::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Names the budget, what is left of it, and when it resets.
pub fn over_budget(refusal: &Refusal) -> Problem {
    let Refusal { rule, left, resets_at, .. } = refusal;
    if refusal.why == Why::Unpriced {
        return Problem::new(Kind::Invalid, format_args!("{refusal}.")).with("param", "model");
    }
    let problem = Problem::new(Kind::BudgetExceeded, format_args!("{refusal}."))
        .with("budget", &*rule.name)
        .with("unit", rule.unit.as_str())
        .with("limit", rule.unit.text(rule.budget.cap()))
        .with("left", rule.unit.text(*left))
        .with("resets_at", resets_at.map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)));
    match refusal.retry_after() {
        Some(wait) => problem.retry_after(wait),
        None => problem,
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.respond("application/problem+json", &self.json())
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Missing | AuthError::Malformed(_) | AuthError::Unknown | AuthError::Expired(_) => {
                Self::new(Kind::Unauthorized, error)
            }
            AuthError::Throttled(wait) => Self::new(Kind::Limited, error).retry_after(wait),
            AuthError::TeamDisabled(_) => Self::new(Kind::Forbidden, error),
            AuthError::Unavailable => Self::unavailable(error),
        }
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        use store::Error::{Database, Io, PoolClosed, PoolTimedOut, Protocol, Tls, WorkerCrashed};
        let is_passing = match &error {
            Io(_) | PoolClosed | PoolTimedOut | Protocol(_) | Tls(_) | WorkerCrashed => true,
            // Connection failures, too many connections, shutting down or starting, statement cancelled by a time-out.
            Database(db) => {
                db.code().is_some_and(|code| ["08", "53", "57"].iter().any(|class| code.starts_with(class)))
            }
            _ => false,
        };
        // Class 22, data exception, and 54, a limit of the database: a text or a number that the database cannot store. Callers' input is checked before it
        // gets there; what slips through is still theirs, and no failure of ours.
        let is_bad_value = matches!(&error, Database(db) if db.code().is_some_and(|code| code.starts_with("22") || code.starts_with("54")));
        if is_passing {
            tracing::warn!(%error, "The database could not be asked");
            Self::unavailable("The database is out of reach; nothing was changed. Try again.")
        } else if is_bad_value {
            tracing::warn!(%error, "A caller's value cannot be stored; it should have been refused earlier");
            let detail = "A value cannot be stored: a text with the character NUL, or a number out of range; nothing was changed.";
            Self::new(Kind::BadRequest, detail)
        } else {
            Self::internal(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shown(problem: Problem) -> Value {
        let response = problem.into_response();
        let headers = ["content-type", "retry-after", "www-authenticate"]
            .map(|name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()));
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        json!({ "headers": headers, "body": serde_json::from_slice::<Value>(&body).unwrap() })
    }

    #[tokio::test]
    async fn problems_have_the_form_of_rfc_9457() {
        let bad_line = Problem::new(Kind::BadLine, "Line 3: method is \"GET\".").with("line", 3).with("reason", "…");
        insta::assert_json_snapshot!("bad_line", shown(bad_line).await);
        let limited = Problem::new(Kind::Limited, "slots").retry_after(Duration::from_millis(1200));
        insta::assert_json_snapshot!("limited", shown(limited).await);
        insta::assert_json_snapshot!("unauthorized", shown(AuthError::Missing.into()).await);
    }

    #[test]
    fn codes_are_distinct() {
        let codes: std::collections::BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.code()).collect();
        assert_eq!(codes.len(), Kind::ALL.len());
    }

    #[tokio::test]
    async fn an_internal_problem_keeps_its_reason_to_itself() {
        let shown = shown(Problem::internal("password=hunter2")).await.to_string();
        assert!(!shown.contains("hunter2"));
    }

    #[test]
    fn a_database_out_of_reach_is_not_our_failure() {
        assert_eq!(Problem::from(store::Error::PoolTimedOut).kind, Kind::Unavailable);
        assert_eq!(Problem::from(store::Error::RowNotFound).kind, Kind::Internal);
    }
}
