//! Jobs after their submission. Another team's job does not exist.

use axum::{Json, extract::State};
use domain::{Job, JobId, JobState, Lane};
use engine::{
    admit::{Caller, Permission},
    jobs::{self, By, JobError},
};
use serde::Deserialize;
use store::job::ListQuery;

use crate::{
    App,
    auth::CurrentCaller,
    input::{Id, Params, parse},
    page::{Limit, Page, read_cursor, read_limit},
    problem::{Kind, Problem},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListParams {
    state: Option<String>,
    lane: Option<String>,
    cursor: Option<String>,
    limit: Option<Limit>,
}

pub async fn list(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Params(params): Params<ListParams>,
) -> Result<Json<Page<Job>>, Problem> {
    let limit = read_limit(params.limit);
    let before = params.cursor.as_deref().map(read_cursor).transpose()?;
    let query = ListQuery {
        state: params.state.as_deref().map(read_state).transpose()?,
        lane: params.lane.as_deref().map(|lane| parse::<Lane>("lane", lane)).transpose()?,
        before: before.as_deref().map(|id| parse::<JobId>("cursor", id)).transpose()?,
        limit: limit + 1,
    };
    let rows = jobs::list(&app.engine, caller.scope(Permission::ReadJobs), &query).await?;
    Ok(Json(Page::of(rows, limit, |job: &Job| job.id.to_string())))
}

pub async fn get(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Id(id): Id<JobId>,
) -> Result<Json<Job>, Problem> {
    let job = jobs::get(&app.engine, caller.scope(Permission::ReadJobs), id).await?;
    job.map(Json).ok_or_else(|| no_job(id))
}

pub async fn pause(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Id(id): Id<JobId>,
) -> Result<Json<Job>, Problem> {
    let done = jobs::pause(&app.engine, by(&caller, Permission::ManageJobs), id).await;
    done.map(Json).map_err(|error| refused(id, error))
}

pub async fn resume(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Id(id): Id<JobId>,
) -> Result<Json<Job>, Problem> {
    let done = jobs::resume(&app.engine, by(&caller, Permission::ManageJobs), id).await;
    done.map(Json).map_err(|error| refused(id, error))
}

pub async fn cancel(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Id(id): Id<JobId>,
) -> Result<Json<Job>, Problem> {
    let done = jobs::cancel(&app.engine, by(&caller, Permission::ManageJobs), id).await;
    done.map(Json).map_err(|error| refused(id, error))
}

/// Approves a job that waits for approval.
pub async fn approve(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Id(id): Id<JobId>,
) -> Result<Json<Job>, Problem> {
    let done = jobs::approve(&app.engine, by(&caller, Permission::ApproveJobs), id).await;
    done.map(Json).map_err(|error| refused(id, error))
}

/// Purges bodies and results; the job's record and its ledger rows stay.
pub async fn delete(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Id(id): Id<JobId>,
) -> Result<Json<Job>, Problem> {
    let done = jobs::delete(&app.engine, by(&caller, Permission::DeleteJobs), id).await;
    done.map(Json).map_err(|error| refused(id, error))
}

/// The caller as the engine's audit names it.
pub fn by(caller: &Caller, permission: Permission) -> By<'_> {
    By { scope: caller.scope(permission), key_id: &caller.key_id }
}

pub fn no_job(id: JobId) -> Problem {
    Problem::not_found(format_args!("job {id}"))
}

fn read_state(word: &str) -> Result<JobState, Problem> {
    JobState::from_word(word).ok_or_else(|| {
        let known: Vec<&str> = JobState::ALL.iter().map(|state| state.as_str()).collect();
        Problem::new(Kind::BadRequest, format_args!("state is one of {}.", known.join(", "))).with("param", "state")
    })
}

/// What the engine says of the job `id`, as a problem.
pub fn refused(id: JobId, error: JobError) -> Problem {
    match error {
        JobError::NotFound => no_job(id),
        JobError::Conflict { state, wanted } => {
            Problem::new(Kind::Conflict, format_args!("{id} is {state} and cannot be {wanted}.")).with("state", state)
        }
        JobError::AwaitsApproval(why) => Problem::new(
            Kind::Conflict,
            format_args!(
                "{id} is paused and cannot be resumed: {why}. A key with the role operator or admin can approve it."
            ),
        )
        .with("state", "paused"),
        JobError::NothingToApprove => {
            Problem::new(Kind::Conflict, format_args!("{id} does not wait for approval; there is nothing to approve."))
        }
        JobError::Param { name, .. } => Problem::new(Kind::Invalid, &error).with("param", name),
        JobError::Purged => Problem::new(Kind::Gone, format_args!("The bodies and results of {id} were purged.")),
        JobError::Unavailable(error) => error.into(),
    }
}

impl From<JobError> for Problem {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Unavailable(error) => error.into(),
            JobError::NotFound => Self::not_found("such job"),
            JobError::Conflict { .. } | JobError::AwaitsApproval(_) | JobError::NothingToApprove => {
                Self::new(Kind::Conflict, error)
            }
            JobError::Param { name, .. } => Self::new(Kind::Invalid, &error).with("param", name),
            JobError::Purged => Self::new(Kind::Gone, error),
        }
    }
}
