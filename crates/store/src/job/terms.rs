//! What a job runs by, changed while it waits or runs.

use chrono::{DateTime, Utc};
use domain::{After, JobId, money::Total};
use sqlx::{PgConnection, query};

use super::{after_of, decode};
use crate::Result;

/// What can be changed while a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    pub priority: i16,
    pub deadline_at: Option<DateTime<Utc>>,
    pub start_at: Option<DateTime<Utc>>,
    pub after: Option<After>,
    /// The most that it may cost.
    pub max_cost: Option<Total>,
    /// Whether a request of it was ever claimed.
    pub has_begun: bool,
    pub team_id: i64,
}

/// The caller must hold the job's lock.
pub async fn terms(conn: &mut PgConnection, id: JobId) -> Result<Terms> {
    let row = query!(
        r#"select team_id, priority, deadline_at, start_at, after_job, after_on, max_cost::text as max_cost,
                  started_at is not null or exists (select 1 from flow where job_id = $1 and next_pos > 0) as "has_begun!"
           from job where job_id = $1"#,
        id.0
    )
    .fetch_one(conn)
    .await?;
    Ok(Terms {
        priority: row.priority,
        deadline_at: row.deadline_at,
        start_at: row.start_at,
        after: after_of(row.after_job, row.after_on.as_deref()),
        max_cost: row.max_cost.map(|most| most.parse().map(Total)).transpose().map_err(decode)?,
        has_begun: row.has_begun,
        team_id: row.team_id,
    })
}

/// Changes priority and deadline of the job and of all that waits of it: one row for each flow. The caller must hold
/// the job's lock.
pub async fn set_terms(
    conn: &mut PgConnection,
    id: JobId,
    priority: i16,
    deadline_at: Option<DateTime<Utc>>,
) -> Result<()> {
    query!("update job set priority = $2, deadline_at = $3 where job_id = $1", id.0, priority, deadline_at)
        .execute(&mut *conn)
        .await?;
    query!("update flow set priority = $2, deadline_at = $3 where job_id = $1", id.0, priority, deadline_at)
        .execute(conn)
        .await?;
    Ok(())
}
