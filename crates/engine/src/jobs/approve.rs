//! Approving a job that waits for approval.

use chrono::{DateTime, Utc};
use domain::{Action, Job, JobId, JobState};
use serde_json::json;
use store::{
    PgConnection,
    audit::{self, Entry},
    pause::{self, HoldRow},
};

use super::{By, JobError, finish_if_drained, lock, reread};
use crate::Engine;

/// Approves every open approval of the job. A guard then exempts it until the window of its budget ends. Idempotent.
pub async fn approve(engine: &Engine, by: By<'_>, id: JobId) -> Result<Job, JobError> {
    let now = engine.clock.now();
    let mut tx = engine.pools.api.begin().await?;
    let state = lock(&mut tx, by.scope, id).await?;
    if !matches!(state, JobState::Queued | JobState::Running | JobState::Paused) {
        return Err(JobError::Conflict { state: state.as_str(), wanted: "approved" });
    }
    let waits = |hold: &HoldRow| hold.reason.is_approvable() && hold.lifted_until.is_none();
    let (open, others): (Vec<_>, Vec<_>) = pause::of_job(&mut tx, id).await?.into_iter().partition(waits);
    if open.is_empty() {
        let is_approved = |hold: &HoldRow| hold.reason.is_approvable() && hold.lifted_until > Some(now);
        // Asked again: it was approved, and nothing has come up since.
        return match others.iter().any(is_approved) {
            true => reread(engine, by.scope, id).await,
            false => Err(JobError::NothingToApprove),
        };
    }
    for hold in &open {
        pause::lift(&mut tx, id, hold.reason, hold.part_id, until(hold, now)).await?;
    }
    let said: Vec<_> = open.iter().map(|hold| json!({ "of": hold.reason, "reason": hold.detail })).collect();
    let details = json!({ "approved": said });
    audit::record(&mut tx, Entry { job_id: id.0, key_id: Some(by.key_id), action: Action::Approve, details }).await?;
    resume_unless_held(engine, &mut tx, id, &others).await?;
    tx.commit().await?;
    engine.work.notify();
    reread(engine, by.scope, id).await
}

/// A guard lets it alone until the window of its budget has passed; all else is approved for good.
fn until(hold: &HoldRow, now: DateTime<Utc>) -> DateTime<Utc> {
    let passes = hold.budget.as_ref().and_then(|budget| budget.window.passes_at(budget.time_zone, now));
    passes.unwrap_or_else(|| DateTime::from_timestamp(FAR, 0).unwrap_or(now))
}

/// 9999-12-31.
const FAR: i64 = 253_402_214_400;

/// Resumes a paused job if none of its `holds` is in force any more, and returns whether it did. The caller must hold
/// the job's lock.
pub(crate) async fn resume_unless_held(
    engine: &Engine,
    conn: &mut PgConnection,
    id: JobId,
    holds: &[HoldRow],
) -> store::Result<bool> {
    if holds.iter().any(|hold| hold.lifted_until.is_none()) {
        return Ok(false);
    }
    store::job::resume(conn, id).await?;
    // Its last call may have ended while it was paused.
    if !store::flow::drained(conn, &[id.0]).await?.is_empty() {
        finish_if_drained(engine, conn, id).await?;
    }
    Ok(true)
}
