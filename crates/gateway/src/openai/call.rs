//! Synchronous calls: read the request, let the engine make the call, name in headers what happened.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use domain::{Endpoint, ErrorClass, Lane};
use engine::sync_calls::{self, Chunks, Direct, DirectAnswer, DirectError, Meta};
use futures::{StreamExt, future};

use super::{Failure, models::unknown_model};
use crate::{
    App,
    api::upload::{header, tags},
    auth::CurrentCaller,
    entry::{CALL_ID, EntryId},
    input::{parse, read_body},
    problem::{Kind, Problem, over_budget},
};

pub async fn chat_completions(
    State(app): State<App>,
    who: CurrentCaller,
    id: EntryId,
    headers: HeaderMap,
    body: Body,
) -> Response {
    call(&app, who, id, Endpoint::ChatCompletions, &headers, body).await
}

pub async fn embeddings(
    State(app): State<App>,
    who: CurrentCaller,
    id: EntryId,
    headers: HeaderMap,
    body: Body,
) -> Response {
    call(&app, who, id, Endpoint::Embeddings, &headers, body).await
}

/// Whatever its end, the answer names the call.
async fn call(
    app: &App,
    who: CurrentCaller,
    EntryId(id): EntryId,
    endpoint: Endpoint,
    headers: &HeaderMap,
    body: Body,
) -> Response {
    let mut response = make(app, who, &id, endpoint, headers, body).await.into_response();
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(CALL_ID, id);
    }
    response
}

async fn make(
    app: &App,
    CurrentCaller(caller): CurrentCaller,
    request_id: &Arc<str>,
    endpoint: Endpoint,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let lane = header(headers, "x-tollway-lane")?.map(|lane| parse::<Lane>("x-tollway-lane", lane)).transpose()?;
    let tags = tags(headers)?.unwrap_or_default();
    let limit = app.engine.settings.max_body;
    let body = read_body(body, limit).await.map_err(|problem| match problem.kind {
        Kind::TooLarge => {
            let detail = format_args!("At most {limit} bytes are taken here, as [server] max_body_mb says.");
            Problem::new(Kind::TooLarge, detail).with("limit", limit)
        }
        _ => problem,
    })?;
    let asked = Direct { request_id: Arc::clone(request_id), endpoint, body, tags, lane };
    match sync_calls::call(&app.engine, &caller, asked).await {
        Ok(DirectAnswer::Whole { status, body, meta }) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
            Ok(answer(status, "application/json", &meta, Body::from(body)))
        }
        Ok(DirectAnswer::Stream { meta, body }) => {
            let mut response = answer(StatusCode::OK, "text/event-stream", &meta, Body::from_stream(events(body)));
            // nginx would hold pieces back until its buffer is full.
            response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
            Ok(response)
        }
        // The provider's own words about the request: its error object is what OpenAI's clients expect.
        Err(DirectError::Refused { status, body: Some(body), .. }) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
            Ok((status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response())
        }
        Err(error) => Err(Failure(problem(error))),
    }
}

/// A stream that breaks ends with an error event and without `[DONE]`: nobody can take it for whole.
fn events(pieces: Chunks) -> impl futures::Stream<Item = Result<Bytes, std::convert::Infallible>> {
    pieces.scan(false, |broken, piece| {
        future::ready((!*broken).then(|| {
            Ok(piece.unwrap_or_else(|error| {
                *broken = true;
                format!("data: {}\n\n", Failure(problem(error)).json()).into()
            }))
        }))
    })
}

fn answer(status: StatusCode, content_type: &'static str, meta: &Meta, body: Body) -> Response {
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(HeaderName::from_static("x-tollway-attempts"), meta.attempts.into());
    let mut put = |name: &'static str, value: &str| {
        // A model's name comes from the provider; one that fits in no header is left out.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    put("x-tollway-deployment", &meta.deployment);
    put("x-tollway-model", &meta.model);
    if let Some(cost) = meta.cost_usd {
        put("x-tollway-cost-usd", &cost.to_string());
    }
    response
}

/// No caller is told to wait longer: SDKs sleep as long as they are told, and another deployment may answer by then.
const MAX_RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(60);

fn problem(error: DirectError) -> Problem {
    match error {
        DirectError::UnknownModel(model) => unknown_model(&model),
        DirectError::Unpriced(_) => Problem::new(Kind::Invalid, error).with("param", "model"),
        DirectError::LaneForbidden(_) | DirectError::LaneClosed { .. } => {
            Problem::new(Kind::Forbidden, error).with("param", "x-tollway-lane")
        }
        DirectError::Invalid(_) => Problem::new(Kind::BadRequest, error),
        DirectError::Limited { retry_after, .. } => Problem::new(Kind::Limited, error).retry_after(retry_after),
        DirectError::Budget(refusal) => over_budget(&refusal),
        DirectError::Refused { status, message, .. } => {
            let kind = match status {
                413 => Kind::TooLarge,
                422 => Kind::Invalid,
                _ => Kind::BadRequest,
            };
            Problem::new(kind, message)
        }
        DirectError::Exhausted { class, message, retry_after } => {
            let problem = match class {
                ErrorClass::Throttled => Problem::new(Kind::Limited, message),
                ErrorClass::Overloaded => Problem::new(Kind::Unavailable, message),
                ErrorClass::ConnectTimeout => Problem::new(Kind::ConnectTimeout, message),
                ErrorClass::ReadTimeout => Problem::new(Kind::ReadTimeout, message),
                ErrorClass::TotalTimeout => Problem::new(Kind::TotalTimeout, message),
                // Its message may quote the credential.
                ErrorClass::Credential => {
                    Problem::new(Kind::Provider, "The provider refused the operator's credential.")
                }
                ErrorClass::Panic => Problem::new(Kind::Internal, message),
                _ => Problem::new(Kind::Provider, message),
            };
            match retry_after {
                Some(wait) => problem.retry_after(wait.min(MAX_RETRY_AFTER)),
                None => problem,
            }
        }
        DirectError::Unavailable => Problem::unavailable(error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn check(error: DirectError, kind: Kind) {
        assert_eq!(problem(error.clone()).kind, kind, "{error:?}");
    }

    fn exhausted(class: ErrorClass) -> DirectError {
        DirectError::Exhausted { class, message: "sk-secret".into(), retry_after: Some(Duration::from_secs(3)) }
    }

    #[test]
    fn failures_say_what_a_caller_can_do() {
        check(DirectError::UnknownModel("m".into()), Kind::UnknownModel);
        check(DirectError::LaneForbidden(Lane::prod()), Kind::Forbidden);
        check(DirectError::Limited { what: "slots".into(), retry_after: Duration::from_secs(1) }, Kind::Limited);
        check(exhausted(ErrorClass::Throttled), Kind::Limited);
        check(exhausted(ErrorClass::Overloaded), Kind::Unavailable);
        check(exhausted(ErrorClass::ConnectTimeout), Kind::ConnectTimeout);
        check(exhausted(ErrorClass::ReadTimeout), Kind::ReadTimeout);
        check(exhausted(ErrorClass::TotalTimeout), Kind::TotalTimeout);
        check(exhausted(ErrorClass::Connect), Kind::Provider);
        check(DirectError::Unavailable, Kind::Unavailable);
        assert_eq!(problem(exhausted(ErrorClass::Throttled)).retry_after, Some(Duration::from_secs(3)));
    }

    #[test]
    fn a_caller_is_never_told_to_wait_longer_than_a_minute() {
        let hour = Some(Duration::from_secs(3_600));
        let error = DirectError::Exhausted { class: ErrorClass::Throttled, message: String::new(), retry_after: hour };
        assert_eq!(problem(error).retry_after, Some(Duration::from_secs(60)));
        check(exhausted(ErrorClass::QuotaExhausted), Kind::Provider);
        check(exhausted(ErrorClass::ModelNotFound), Kind::Provider);
    }

    #[test]
    fn a_refused_credential_is_not_quoted() {
        assert!(!problem(exhausted(ErrorClass::Credential)).detail.contains("sk-secret"));
    }

    #[tokio::test]
    async fn a_broken_stream_ends_with_an_error() {
        let pieces =
            [Ok(Bytes::from_static(b"data: 1\n\n")), Err(exhausted(ErrorClass::Cut)), Ok(Bytes::from_static(b"never"))];
        let sent: Vec<_> = events(Box::pin(futures::stream::iter(pieces))).map(|piece| piece.unwrap()).collect().await;
        assert_eq!(sent.len(), 2);
        let error: serde_json::Value = serde_json::from_slice(&sent[1]["data: ".len()..]).unwrap();
        assert_eq!(error["error"]["type"], "server_error");
    }
}
