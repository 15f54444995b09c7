//! What the database knows of that somebody should be told.

use chrono::{DateTime, Utc};
use domain::JobId;
use sqlx::{PgConnection, query_as, query_scalar};

use crate::Result;

/// Jobs of one team are told of together, at most this often.
const PAUSE_MINUTES: i32 = 10;

/// A job with failed requests and without an alert about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedJob {
    pub job_id: JobId,
    pub team: String,
    pub failed: i64,
}

/// By team, the newest first, at most `limit`. Jobs under way are in their tallies, and so are those that have just ended.
pub async fn failed_jobs(conn: &mut PgConnection, limit: i64) -> Result<Vec<FailedJob>> {
    struct Row {
        job_id: i64,
        team: String,
        failed: i64,
    }
    let rows = query_as!(
        Row,
        r#"with failing as (
               select job_id from job_tally where failed > 0
               union
               select job_id from job where failed > 0 and finished_at > now() - interval '1 day'
           )
           select j.job_id, t.name as team,
                  (j.failed + coalesce((select sum(n.failed) from job_tally n where n.job_id = j.job_id), 0))::bigint
                      as "failed!"
           from failing f
           join job j on j.job_id = f.job_id
           join team t on t.team_id = j.team_id
           where not exists (select from alert a where a.kind = 'dead_letters' and a.about = j.job_id::text)
             and not exists (select from alert a
                             where a.kind = 'dead_letters' and a.team = t.name
                               and a.raised_at > now() - make_interval(mins => $2))
           order by t.name, j.job_id desc limit $1"#,
        limit,
        PAUSE_MINUTES,
    )
    .fetch_all(conn)
    .await?;
    let job = |row: Row| FailedJob { job_id: JobId(row.job_id), team: row.team, failed: row.failed };
    Ok(rows.into_iter().map(job).collect())
}

/// When the oldest ledger row was written that is in no file of the lake; `None`: all of them are.
pub async fn oldest_unexported(conn: &mut PgConnection) -> Result<Option<DateTime<Utc>>> {
    query_scalar!(
        r#"select min(l.recorded_at)
           from (
               (select usage_date, batch_id from ledger_batch where segment_id is null order by usage_date, batch_id limit 1)
               union all
               (select b.usage_date, b.batch_id from segment s join ledger_batch b on b.segment_id = s.segment_id
                where s.published_at is null order by s.segment_id, b.batch_id limit 1)
           ) oldest
           join ledger_entry l on l.usage_date = oldest.usage_date and l.batch_id = oldest.batch_id"#
    )
    .fetch_one(conn)
    .await
}
