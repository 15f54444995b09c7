//! Recurring jobs: made of lines and a cron expression, listed, and taken back.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::{Schedule, ScheduleId};
use engine::{
    admit::Permission,
    schedules::{self, ScheduleError, ScheduleSpec},
    submit::Submitter,
};
use serde::Deserialize;
use tokio_util::io::StreamReader;
use tracing::info;

use super::{
    submit::refused as not_taken,
    upload::{SubmitParams, bytes, format},
};
use crate::{
    App,
    auth::CurrentCaller,
    input::{Id, Params},
    page::Page,
    peer::Peer,
    problem::{Kind, Problem},
};

/// When it fires; what each of its jobs is like is said as for a submission.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSchedule {
    name: String,
    cron: String,
    #[serde(default = "utc")]
    time_zone: String,
    #[serde(default)]
    skip_if_running: bool,
    lane: Option<String>,
    tags: Option<String>,
    priority: Option<String>,
    max_attempts: Option<String>,
    webhook: Option<String>,
}

fn utc() -> String {
    "UTC".to_owned()
}

pub async fn create(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Params(new): Params<NewSchedule>,
    peer: Peer,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    if format(&headers)? != engine::submit::Format::Jsonl {
        return Err(Problem::new(Kind::UnsupportedMedia, "A schedule's lines are JSONL.").with("param", "content-type"));
    }
    let NewSchedule { name, cron, time_zone, skip_if_running, lane, tags, priority, max_attempts, webhook } = new;
    let params = SubmitParams { lane, tags, priority, max_attempts, webhook, ..SubmitParams::default() }.read()?;
    let wanted = ScheduleSpec { name, cron, time_zone, skip_if_running, params };
    let who = Submitter { team_id: caller.team_id, key_id: &caller.key_id, lanes: &caller.lanes };
    let lines = StreamReader::new(Box::pin(bytes(body)));
    let made = peer.while_there(schedules::create(&app.engine, who, wanted, lines)).await?.map_err(refused)?;
    info!(key.id = %caller.key_id, schedule = %made.id, "A schedule was made");
    let location = [(header::LOCATION, format!("/api/v1/schedules/{}", made.id))];
    Ok((StatusCode::CREATED, location, Json(made)).into_response())
}

pub async fn list(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
) -> Result<Json<Page<Schedule>>, Problem> {
    let data = schedules::list(&app.engine, caller.scope(Permission::ReadJobs)).await.map_err(refused)?;
    Ok(Json(Page { data, next: None }))
}

pub async fn delete(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Id(id): Id<ScheduleId>,
) -> Result<StatusCode, Problem> {
    match schedules::delete(&app.engine, caller.scope(Permission::SubmitJobs), id, &caller.key_id).await {
        Ok(()) => {
            info!(key.id = %caller.key_id, schedule = %id, "A schedule was deleted");
            Ok(StatusCode::NO_CONTENT)
        }
        Err(ScheduleError::NotFound) => Err(Problem::not_found(format_args!("schedule {id}"))),
        Err(error) => Err(refused(error)),
    }
}

fn refused(error: ScheduleError) -> Problem {
    match error {
        ScheduleError::Param { name, .. } => Problem::new(Kind::Invalid, &error).with("param", name),
        ScheduleError::Taken(_) => Problem::new(Kind::Conflict, &error).with("param", "name"),
        ScheduleError::NotFound => Problem::not_found("such schedule"),
        ScheduleError::Lines(error) => not_taken(error),
    }
}
