//! A job's life after submission: what its owner, or an operator, does to it. Everything is idempotent, and none of it takes
//! longer for a million requests than for one.

use domain::{Job, JobId, JobState};
use store::{
    PgConnection,
    job::{EndAs, ListQuery},
};

pub use store::job::Scope;

use crate::Engine;

#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Or it is another team's, which is the same to the caller.
    #[error("there is no such job")]
    NotFound,
    #[error("a job that is {state} cannot be {wanted}")]
    Conflict { state: &'static str, wanted: &'static str },
    #[error("the database cannot be reached")]
    Unavailable(#[from] store::Error),
}

pub async fn get(engine: &Engine, scope: Scope, id: JobId) -> Result<Option<Job>, JobError> {
    Ok(store::job::get(&mut *engine.pools.api.acquire().await?, scope, id).await?)
}

pub async fn list(engine: &Engine, scope: Scope, query: &ListQuery) -> Result<Vec<Job>, JobError> {
    Ok(store::job::list(&mut *engine.pools.api.acquire().await?, scope, query).await?)
}

/// No new call starts; calls under way end. Pausing what is paused changes nothing.
pub async fn pause(engine: &Engine, scope: Scope, id: JobId) -> Result<Job, JobError> {
    let mut tx = engine.pools.api.begin().await?;
    match lock(&mut tx, scope, id).await? {
        JobState::Queued | JobState::Running => store::job::pause(&mut tx, id).await?,
        JobState::Paused => {}
        state => return Err(JobError::Conflict { state: state.as_str(), wanted: "paused" }),
    }
    tx.commit().await?;
    reread(engine, scope, id).await
}

pub async fn resume(engine: &Engine, scope: Scope, id: JobId) -> Result<Job, JobError> {
    let mut tx = engine.pools.api.begin().await?;
    match lock(&mut tx, scope, id).await? {
        JobState::Paused => store::job::resume(&mut tx, id).await?,
        JobState::Queued | JobState::Running => {}
        state => return Err(JobError::Conflict { state: state.as_str(), wanted: "resumed" }),
    }
    tx.commit().await?;
    engine.bell.ring();
    reread(engine, scope, id).await
}

/// What waits is cancelled at once; calls under way end and are settled, and then the job is `cancelled`.
pub async fn cancel(engine: &Engine, scope: Scope, id: JobId) -> Result<Job, JobError> {
    let mut tx = engine.pools.api.begin().await?;
    match lock(&mut tx, scope, id).await? {
        JobState::Queued | JobState::Running | JobState::Paused => {
            store::job::end_waiting(&mut tx, id, EndAs::Cancelled).await?;
            store::job::set_cancelling(&mut tx, id).await?;
            finish_if_drained(engine, &mut tx, id).await?;
        }
        JobState::Cancelling | JobState::Cancelled => {}
        state => return Err(JobError::Conflict { state: state.as_str(), wanted: "cancelled" }),
    }
    tx.commit().await?;
    reread(engine, scope, id).await
}

/// Purges the bodies and results of a job that has ended; its record and its ledger rows stay.
pub async fn delete(engine: &Engine, scope: Scope, id: JobId) -> Result<Job, JobError> {
    let mut conn = engine.pools.api.acquire().await?;
    let job = store::job::get(&mut conn, scope, id).await?.ok_or(JobError::NotFound)?;
    if !job.state.is_terminal() {
        return Err(JobError::Conflict { state: job.state.as_str(), wanted: "deleted; cancel it first" });
    }
    // First: from here on its results are not shown, however far the purge has come.
    store::retention::mark_purged(&mut conn, id.0).await?;
    while store::retention::purge_some(&mut conn, id.0, 10_000).await? > 0 {}
    drop(conn);
    reread(engine, scope, id).await
}

async fn lock(conn: &mut PgConnection, scope: Scope, id: JobId) -> Result<JobState, JobError> {
    store::job::lock(conn, scope, id).await?.ok_or(JobError::NotFound)
}

async fn reread(engine: &Engine, scope: Scope, id: JobId) -> Result<Job, JobError> {
    get(engine, scope, id).await?.ok_or(JobError::NotFound)
}

/// Ends the job if none of its requests is left, and has its end told. Holds the job's lock.
pub(crate) async fn finish_if_drained(engine: &Engine, conn: &mut PgConnection, id: JobId) -> store::Result<bool> {
    let Some(state) = store::job::lock(conn, Scope::All, id).await? else { return Ok(false) };
    if state.is_terminal() || matches!(state, JobState::Uploading | JobState::Paused) {
        return Ok(false);
    }
    let late = store::flow::remove_ended_retries(conn, id.0).await?;
    if late > 0 {
        let how = if state == JobState::Cancelling { EndAs::Cancelled } else { EndAs::Expired };
        store::job::count_ended(conn, id, how, late).await?;
    }
    if store::flow::remove_drained(conn, id.0).await? > 0 {
        return Ok(false);
    }
    let Some(_) = store::job::finish(conn, id, engine.settings.retention).await? else { return Ok(false) };
    if let Some((team_id, url)) = store::job::webhook_of(conn, id).await?
        && let Some(job) = store::job::get(conn, Scope::All, id).await?
    {
        let payload = crate::webhook::job_ended(&job);
        let webhook = store::outbox::NewWebhook {
            webhook_id: uuid::Uuid::now_v7(),
            job_id: id.0,
            team_id,
            url: &url,
            payload: &payload,
        };
        store::outbox::insert(conn, webhook).await?;
    }
    Ok(true)
}
