//! A job's life after submission: what its owner, or an operator, does to it. Everything is idempotent, and none of it takes
//! longer for a million requests than for one.

mod approve;
mod change;
mod failures;
mod finish;
mod guard;

use domain::{Action, AuditLine, Job, JobId, JobState, PauseReason};
use serde_json::json;
use store::{
    PgConnection,
    audit::{self, Entry},
    job::{EndAs, ListQuery},
    pause::{self, NewPause},
};

pub use store::job::Scope;

pub(crate) use self::approve::resume_unless_held;
pub(crate) use self::finish::{Finish, UNCLEAN, finish_if_drained, finish_plain, release_followers};
pub use self::{
    approve::approve,
    change::{Change, change},
    failures::failures,
    guard::{keep_guard, resume_guarded},
};
use crate::Engine;

/// The actor of a change to a job: the jobs within its scope, and the key that the audit names.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    pub scope: Scope,
    pub key_id: &'a str,
}

#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Or it is another team's, which is the same to the caller.
    #[error("there is no such job")]
    NotFound,
    #[error("a job that is {state} cannot be {wanted}")]
    Conflict { state: &'static str, wanted: &'static str },
    /// By a guard, and not by a person.
    #[error("it waits for approval: {0}")]
    AwaitsApproval(String),
    #[error("it does not wait for approval")]
    NothingToApprove,
    /// What was asked for cannot be; nothing was changed.
    #[error("{name}: {reason}")]
    Param { name: &'static str, reason: String },
    #[error("its bodies and results were purged")]
    Purged,
    #[error("the database cannot be reached")]
    Unavailable(#[from] store::Error),
}

impl JobError {
    fn param(name: &'static str, reason: String) -> Self {
        Self::Param { name, reason }
    }
}

pub async fn get(engine: &Engine, scope: Scope, id: JobId) -> Result<Option<Job>, JobError> {
    Ok(store::job::get(&mut *engine.pools.api.acquire().await?, scope, id).await?)
}

pub async fn list(engine: &Engine, scope: Scope, query: &ListQuery) -> Result<Vec<Job>, JobError> {
    Ok(store::job::list(&mut *engine.pools.api.acquire().await?, scope, query).await?)
}

/// Starts no new call; calls in flight finish. Idempotent.
pub async fn pause(engine: &Engine, by: By<'_>, id: JobId) -> Result<Job, JobError> {
    let mut tx = engine.pools.api.begin().await?;
    match lock(&mut tx, by.scope, id).await? {
        JobState::Queued | JobState::Running => {
            store::job::pause(&mut tx, id).await?;
            pause::put(&mut tx, by_hand(engine, id)).await?;
            by.records(&mut tx, id, Action::Pause).await?;
        }
        // A job that a guard paused and that is then paused by hand stays paused when the guard would resume it.
        JobState::Paused if !pause::of_job(&mut tx, id).await?.is_empty() => {
            if pause::put(&mut tx, by_hand(engine, id)).await? == pause::PauseOutcome::New {
                by.records(&mut tx, id, Action::Pause).await?;
            }
        }
        JobState::Paused => {}
        state => return Err(JobError::Conflict { state: state.as_str(), wanted: "paused" }),
    }
    tx.commit().await?;
    reread(engine, by.scope, id).await
}

/// A hold that a person puts on a job.
fn by_hand(engine: &Engine, job: JobId) -> NewPause<'static> {
    NewPause { job, reason: PauseReason::Paused, part_id: 0, detail: "", needs: 0, at: engine.clock.now() }
}

/// Lifts a manual pause. A pause by a guard stays in force.
pub async fn resume(engine: &Engine, by: By<'_>, id: JobId) -> Result<Job, JobError> {
    let mut tx = engine.pools.api.begin().await?;
    match lock(&mut tx, by.scope, id).await? {
        JobState::Paused => {
            let was_paused = pause::remove(&mut tx, id, PauseReason::Paused, 0).await?;
            let holds = pause::of_job(&mut tx, id).await?;
            let is_resumed = approve::resume_unless_held(engine, &mut tx, id, &holds).await?;
            if !was_paused && !is_resumed {
                let still = holds.into_iter().find(|hold| hold.lifted_until.is_none());
                return Err(JobError::AwaitsApproval(still.map(|hold| hold.detail).unwrap_or_default()));
            }
            by.records(&mut tx, id, Action::Resume).await?;
        }
        JobState::Queued | JobState::Running => {}
        state => return Err(JobError::Conflict { state: state.as_str(), wanted: "resumed" }),
    }
    tx.commit().await?;
    engine.work.notify();
    reread(engine, by.scope, id).await
}

/// Cancels waiting requests at once. Calls in flight are cut and settled; then the job is `cancelled`.
pub async fn cancel(engine: &Engine, by: By<'_>, id: JobId) -> Result<Job, JobError> {
    let mut more = false;
    let mut tx = engine.pools.api.begin().await?;
    match lock(&mut tx, by.scope, id).await? {
        JobState::Queued | JobState::Running | JobState::Paused => {
            store::job::end_waiting(&mut tx, id, EndAs::Cancelled).await?;
            store::job::set_cancelling(&mut tx, id).await?;
            by.records(&mut tx, id, Action::Cancel).await?;
            more = finish_if_drained(engine, &mut tx, id).await? == Finish::More;
        }
        JobState::Cancelling | JobState::Cancelled => {}
        state => return Err(JobError::Conflict { state: state.as_str(), wanted: "cancelled" }),
    }
    tx.commit().await?;
    if more {
        engine.settler.touched(std::iter::once(id.0));
    }
    // Other processes see it for themselves, soon.
    engine.fence.jobs.stop(id.0);
    reread(engine, by.scope, id).await
}

/// Purges the bodies and results of a job that has ended; its record and its ledger rows stay.
pub async fn delete(engine: &Engine, by: By<'_>, id: JobId) -> Result<Job, JobError> {
    let mut conn = engine.pools.api.acquire().await?;
    let job = store::job::get(&mut conn, by.scope, id).await?.ok_or(JobError::NotFound)?;
    if !job.state.is_terminal() {
        return Err(JobError::Conflict { state: job.state.as_str(), wanted: "deleted; cancel it first" });
    }
    // First: from here on its results are not shown, however far the purge has come.
    let mut tx = store::begin(&mut conn).await?;
    if store::retention::mark_purged(&mut tx, id.0).await? {
        by.records(&mut tx, id, Action::Delete).await?;
    }
    tx.commit().await?;
    while store::retention::purge_some(&mut conn, id.0, 10_000).await? > 0 {}
    drop(conn);
    reread(engine, by.scope, id).await
}

/// What was done to the job, the oldest first: at most `limit` lines behind the one numbered `behind`, each with its number.
pub async fn history(
    engine: &Engine,
    scope: Scope,
    id: JobId,
    behind: i64,
    limit: i64,
) -> Result<Vec<(i64, AuditLine)>, JobError> {
    let mut conn = engine.pools.api.acquire().await?;
    store::job::team_of(&mut conn, scope, id).await?.ok_or(JobError::NotFound)?;
    Ok(audit::of_job(&mut conn, id.0, behind, limit).await?)
}

impl By<'_> {
    async fn records(&self, conn: &mut PgConnection, id: JobId, action: Action) -> store::Result<()> {
        audit::record(conn, Entry { job_id: id.0, key_id: Some(self.key_id), action, details: json!({}) }).await
    }
}

async fn lock(conn: &mut PgConnection, scope: Scope, id: JobId) -> Result<JobState, JobError> {
    store::job::lock(conn, scope, id).await?.ok_or(JobError::NotFound)
}

async fn reread(engine: &Engine, scope: Scope, id: JobId) -> Result<Job, JobError> {
    get(engine, scope, id).await?.ok_or(JobError::NotFound)
}
