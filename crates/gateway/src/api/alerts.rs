//! Alerts: what people were told of, and whether it arrived.

use axum::{Json, body::Body, extract::State, http::StatusCode};
use domain::Alert;
use notify::alerts::{self, NoReceiver};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    App,
    auth::CurrentCaller,
    input::{Id, Params, SMALL, parse_json, read_body},
    page::{Limit, Page, read_cursor, read_limit},
    problem::{Kind, Problem},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListParams {
    cursor: Option<String>,
    limit: Option<Limit>,
}

pub async fn list(State(app): State<App>, Params(params): Params<ListParams>) -> Result<Json<Page<Alert>>, Problem> {
    let limit = read_limit(params.limit);
    let before = params.cursor.as_deref().map(read_place).transpose()?;
    let mut conn = app.engine.pools.api.acquire().await?;
    let found = store::alert::list(&mut conn, None, before, limit + 1).await?;
    Ok(Json(Page::of(found, limit, |alert| alert.id.to_string())))
}

fn read_place(cursor: &str) -> Result<Uuid, Problem> {
    read_cursor(cursor)?.parse().map_err(|_| {
        Problem::new(Kind::BadRequest, "cursor is not one that a page of this list named").with("param", "cursor")
    })
}

pub async fn get(State(app): State<App>, Id(id): Id<Uuid>) -> Result<Json<Alert>, Problem> {
    let mut conn = app.engine.pools.api.acquire().await?;
    let found = store::alert::list(&mut conn, Some(id), None, 1).await?.pop();
    found.map(Json).ok_or_else(|| Problem::not_found(format_args!("alert {id}")))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TestParams {
    /// To this one alone.
    receiver: Option<String>,
}

pub async fn test(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    body: Body,
) -> Result<(StatusCode, Json<Alert>), Problem> {
    let body = read_body(body, SMALL).await?;
    let wanted = match body.is_empty() {
        true => TestParams::default(),
        false => parse_json(&body)?,
    };
    let made =
        alerts::try_out(&app.engine.notifier, wanted.receiver.as_deref(), &caller.key_id).await.map_err(refused)?;
    Ok((StatusCode::ACCEPTED, Json(made)))
}

fn refused(error: NoReceiver) -> Problem {
    match error {
        NoReceiver::AtAll => Problem::new(Kind::Conflict, error),
        NoReceiver::OfThisName(..) => Problem::new(Kind::Invalid, error).with("param", "receiver"),
        NoReceiver::Unavailable(error) => error.into(),
    }
}
