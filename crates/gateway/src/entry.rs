//! What every request passes before any route sees it, also one that no route takes: it gets an id, text that the database
//! cannot store is refused, and the answer names the id and says whether the connection stays open.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderName, HeaderValue, Uri, header, request::Parts},
    middleware::Next,
    response::Response,
};
use domain::{JobId, RequestId};
use percent_encoding::percent_decode_str;

use crate::{
    App,
    drain::drained,
    problem::{Kind, Problem},
    surface::Surface,
};

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub const CALL_ID: HeaderName = HeaderName::from_static("x-tollway-request-id");
/// Where Anthropic's SDKs look for it.
const ANTHROPIC_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// Extracts the id of this request. A synchronous call is booked under it.
#[derive(Clone)]
pub struct EntryId(pub Arc<str>);

impl<S: Sync> FromRequestParts<S> for EntryId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Problem::internal("a request has no id"))
    }
}

pub async fn enter(State(app): State<App>, request: Request, next: Next) -> Response {
    let id = RequestId { job: JobId::new(app.engine.clock.now()), line: 0 }.to_string();
    let surface = Surface::of_request(request.uri().path(), request.headers());
    let (mut request, unread) = drained(request);
    let mut response = match refused(request.uri()) {
        Some(problem) => {
            drop(request);
            surface.refuse(problem)
        }
        None => {
            request.extensions_mut().insert(EntryId(id.as_str().into()));
            next.run(request).await
        }
    };
    let headers = response.headers_mut();
    // An id is plain ASCII.
    if let Ok(id) = HeaderValue::from_str(&id) {
        let id = headers.get(CALL_ID).cloned().unwrap_or(id);
        if surface == Surface::Anthropic {
            headers.insert(ANTHROPIC_REQUEST_ID, id.clone());
        }
        headers.insert(REQUEST_ID, id);
    }
    if unread.closes() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// PostgreSQL stores no NUL in text, so none may come in; headers cannot hold one, and JSON is checked where it is read.
fn refused(uri: &Uri) -> Option<Problem> {
    let has_nul = |text: &str| percent_decode_str(text).any(|byte| byte == 0);
    let place = if has_nul(uri.path()) {
        "path"
    } else if uri.query().is_some_and(has_nul) {
        "query"
    } else {
        return None;
    };
    let detail = format_args!("The {place} contains the character NUL (%00), which no name can contain; remove it.");
    Some(Problem::new(Kind::BadRequest, detail).with("param", place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nul_is_found_however_it_is_written() {
        let place = |uri: &str| refused(&uri.parse().unwrap()).map(|problem| problem.members["param"].clone());
        assert_eq!(place("/api/v1/teams/%00"), Some("path".into()));
        assert_eq!(place("/v1/models/a%2Fb%00"), Some("path".into()));
        assert_eq!(place("/api/v1/keys?team=a%00b"), Some("query".into()));
        assert_eq!(place("/api/v1/teams/a%2500?x=%250"), None, "an escaped percent sign is no NUL");
        assert_eq!(place("/api/v1/teams/search?a=%C3%BC&b=100%"), None);
    }
}
