//! A job's failures by reason, and the retry of them as a new job. Both use the names that result lines use.

use axum::{Json, body::Body, extract::State, http::HeaderMap, response::Response};
use domain::{Failures, JobId, RetryFilter};
use engine::{
    admit::Permission,
    jobs,
    submit::{self, RetryError, Submitter},
};

use super::{
    jobs::{no_job, refused},
    submit::{answer, refused as not_taken},
    upload::header,
};
use crate::{
    App,
    auth::CurrentCaller,
    input::{Id, SMALL, parse_json, read_body},
    problem::{Kind, Problem},
};

pub async fn failures(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Id(id): Id<JobId>,
) -> Result<Json<Failures>, Problem> {
    let found = jobs::failures(&app.engine, caller.scope(Permission::ReadResults), id).await;
    found.map(Json).map_err(|error| refused(id, error))
}

/// Without a body: all that failed.
pub async fn create(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Id(id): Id<JobId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let bytes = read_body(body, SMALL).await?;
    let filter = if bytes.is_empty() { RetryFilter::default() } else { parse_json(&bytes)? };
    let key = header(&headers, "idempotency-key")?;
    let who = Submitter { team_id: caller.team_id, key_id: &caller.key_id, lanes: &caller.lanes };
    let scope = caller.scope(Permission::SubmitJobs);
    let accepted = submit::retry(&app.engine, who, scope, id, filter, key).await;
    answer(&app, &caller, accepted.map_err(|error| not_retried(id, error))?).await
}

fn not_retried(id: JobId, error: RetryError) -> Problem {
    match error {
        RetryError::NotFound => no_job(id),
        RetryError::NotEnded { ref state } => {
            let detail = format_args!("{id} is {state} and cannot be retried before it has ended.");
            Problem::new(Kind::Conflict, detail).with("state", state.as_str())
        }
        RetryError::Purged => Problem::new(Kind::Gone, error),
        RetryError::Nothing | RetryError::TooOld => Problem::new(Kind::Conflict, error),
        RetryError::NoModel { .. } => Problem::new(Kind::Invalid, error),
        RetryError::Submit(error) => not_taken(error),
    }
}
