//! Failed requests by what they have in common.

use domain::{FailureGroup, RetryFilter};
use sqlx::{PgConnection, query_as, query_scalar};

use crate::Result;

/// The groups of a job's first `most` failures, the largest first.
pub async fn groups(conn: &mut PgConnection, job_id: i64, most: i64, limit: i64) -> Result<Vec<FailureGroup>> {
    query_as!(
        FailureGroup,
        // The message is read of one line a group: it may be long.
        r#"with failed as (
               select line, coalesce(error_class, 'unknown') as error, status_code, deployment from result
               where job_id = $1 and not ok order by line limit $2
           ), grouped as (
               select error, status_code, deployment, count(*) as n, min(line) as first from failed
               group by error, status_code, deployment
               order by n desc, first limit $3
           )
           select g.error as "error!", g.status_code as status, g.deployment, g.n as "count!", g.first as line,
                  r.error_message as message
           from grouped g join result r on r.job_id = $1 and r.line = g.first
           order by g.n desc, g.first"#,
        job_id,
        most,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// Whether one of the job's results in `[from, until)` is a failure that the filter takes.
pub async fn any(conn: &mut PgConnection, job_id: i64, from: i32, until: i32, filter: &RetryFilter) -> Result<bool> {
    let errors = filter.failed_errors();
    query_scalar!(
        r#"select exists (
               select 1 from result
               where job_id = $1 and line >= $2 and line < $3 and not ok
                 and ($4::text[] is null or coalesce(error_class, 'unknown') = any($4))
                 and (cardinality($5::integer[]) = 0 or status_code = any($5))
                 and (cardinality($6::text[]) = 0 or deployment = any($6))
           ) as "any!""#,
        job_id,
        from,
        until,
        errors.as_deref(),
        &filter.statuses,
        &filter.deployments,
    )
    .fetch_one(conn)
    .await
}
