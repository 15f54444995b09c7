//! The reasons why jobs are paused. A job stays paused until its last reason is lifted.

use chrono::{DateTime, Utc};
use domain::{JobId, PauseReason};
use sqlx::{PgConnection, query, query_scalar};

use crate::Result;

#[derive(Debug, Clone, Copy)]
pub struct NewPause<'a> {
    pub job: JobId,
    pub reason: PauseReason,
    /// The sub-budget of the guard; 0 if no guard paused the job.
    pub part_id: i64,
    pub detail: &'a str,
    /// The most that its next request can cost.
    pub needs: i128,
    pub at: DateTime<Utc>,
}

/// The outcome of adding a pause reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PauseOutcome {
    New,
    /// It was there.
    Before,
    /// It was approved before, until then.
    Lifted(DateTime<Utc>),
}

/// The caller must hold the job's lock.
pub async fn put(conn: &mut PgConnection, new: NewPause<'_>) -> Result<PauseOutcome> {
    let NewPause { job, reason, part_id, detail, needs, at } = new;
    let done = query!(
        "insert into job_hold as h (job_id, reason, part_id, detail, needs, held_at)
         values ($1, $2, $3, $4, $5::text::numeric, $6)
         on conflict (job_id, reason, part_id) do update
             set detail = excluded.detail, needs = excluded.needs, held_at = excluded.held_at, lifted_until = null
             where h.lifted_until <= excluded.held_at",
        job.0,
        reason.as_str(),
        part_id,
        detail,
        needs.to_string(),
        at,
    )
    .execute(&mut *conn)
    .await?;
    if done.rows_affected() > 0 {
        return Ok(PauseOutcome::New);
    }
    let lifted = query_scalar!(
        "select lifted_until from job_hold where job_id = $1 and reason = $2 and part_id = $3",
        job.0,
        reason.as_str(),
        part_id,
    )
    .fetch_optional(conn)
    .await?;
    Ok(lifted.flatten().map_or(PauseOutcome::Before, PauseOutcome::Lifted))
}

/// A pause reason, in force or lifted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldRow {
    pub reason: PauseReason,
    pub part_id: i64,
    pub detail: String,
    pub lifted_until: Option<DateTime<Utc>>,
    /// Of a guard: the budget that it guards, as it was declared.
    pub budget: Option<domain::Budget>,
}

/// The job's holds, lifted ones included. The caller must hold the job's lock.
pub async fn of_job(conn: &mut PgConnection, job: JobId) -> Result<Vec<HoldRow>> {
    let rows = query!(
        r#"select h.reason, h.part_id, h.detail, h.lifted_until, b.document as "budget?: sqlx::types::Json<domain::Budget>"
           from job_hold h
           left join budget_part p using (part_id)
           left join budget b using (budget_id)
           where h.job_id = $1 order by h.reason, h.part_id"#,
        job.0,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let unknown = || sqlx::Error::Decode(format!("a job is held by {:?}", row.reason).into());
            Ok(HoldRow {
                reason: PauseReason::from_word(&row.reason).ok_or_else(unknown)?,
                part_id: row.part_id,
                detail: row.detail,
                lifted_until: row.lifted_until,
                budget: row.budget.map(|document| document.0),
            })
        })
        .collect()
}

/// Lifts the reason, and keeps it from applying again before `until`. The caller must hold the job's lock.
pub async fn lift(
    conn: &mut PgConnection,
    job: JobId,
    reason: PauseReason,
    part_id: i64,
    until: DateTime<Utc>,
) -> Result<()> {
    query!(
        "update job_hold set lifted_until = $4 where job_id = $1 and reason = $2 and part_id = $3",
        job.0,
        reason.as_str(),
        part_id,
        until,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Removes the reason, and returns whether it was in force. The caller must hold the job's lock.
pub async fn remove(conn: &mut PgConnection, job: JobId, reason: PauseReason, part_id: i64) -> Result<bool> {
    let done = query!(
        "delete from job_hold where job_id = $1 and reason = $2 and part_id = $3 and lifted_until is null",
        job.0,
        reason.as_str(),
        part_id,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Drops what jobs left that have ended, at most `most` rows at once.
pub async fn forget(conn: &mut PgConnection, most: i64) -> Result<u64> {
    let done = query!(
        "delete from job_hold where (job_id, reason, part_id) in (
             select h.job_id, h.reason, h.part_id from job_hold h left join job j using (job_id)
             where j.job_id is null or j.finished_at is not null limit $1)",
        most,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

#[cfg(test)]
mod tests;
