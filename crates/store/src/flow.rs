//! Flows end when all their requests have. Settling does not touch them, so this does, a little later.

use sqlx::{PgConnection, query, query_scalar};

use crate::Result;

/// Deletes those of the jobs' flows that have nothing left: no item ahead of the cursor, no lease, no retry. The caller
/// must hold the jobs' locks.
pub async fn remove_drained(conn: &mut PgConnection, job_ids: &[i64]) -> Result<()> {
    // Two statements: the second must see what was committed before the locks were had.
    query!("select flow_id from flow where job_id = any($1) order by flow_id for update", job_ids)
        .fetch_all(&mut *conn)
        .await?;
    query!(
        "delete from flow f where f.job_id = any($1) and f.next_pos = f.tail_pos
           and not exists (select 1 from lease l where l.flow_id = f.flow_id)
           and not exists (select 1 from retry r where r.flow_id = f.flow_id)",
        job_ids,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Which of these jobs look drained, without a lock: worth a closer look.
pub async fn drained(conn: &mut PgConnection, job_ids: &[i64]) -> Result<Vec<i64>> {
    query_scalar!(
        r#"select j as "job_id!" from unnest($1::bigint[]) j
           where not exists (
               select 1 from flow f where f.job_id = j
                 and (f.next_pos < f.tail_pos
                      or exists (select 1 from lease l where l.flow_id = f.flow_id)
                      or f.state <> 'ended' and exists (select 1 from retry r where r.flow_id = f.flow_id)))"#,
        job_ids,
    )
    .fetch_all(conn)
    .await
}

/// Retries that one transaction removes: a million of them must neither delay the cancel call nor keep the job locked.
pub const RETRIES_AT_ONCE: i64 = 2_000;

/// Removes retries of flows that were ended, at most [`RETRIES_AT_ONCE`]; gives how many. The caller must hold the
/// job's lock.
pub async fn remove_ended_retries(conn: &mut PgConnection, job_id: i64) -> Result<i64> {
    query_scalar!(
        r#"with gone as (
               delete from retry r using (
                   select flow_id, pos from retry
                   where flow_id in (select flow_id from flow where job_id = $1 and state = 'ended')
                   limit $2
               ) d
               where r.flow_id = d.flow_id and r.pos = d.pos
               returning 1
           )
           select count(*) as "n!" from gone"#,
        job_id,
        RETRIES_AT_ONCE,
    )
    .fetch_one(conn)
    .await
}

/// Of the unfinished jobs behind `after`, at most `window` of them: those without any flow that can still be claimed or settled,
/// which a crash between settling and finishing leaves. Gives also behind which job to go on; `None`: it was the last.
pub async fn jobs_to_finish(conn: &mut PgConnection, after: i64, window: i64) -> Result<(Vec<i64>, Option<i64>)> {
    let looked_at = query!(
        r#"select j.job_id,
                  j.state in ('queued', 'running', 'cancelling') and not exists (
                      select 1 from flow f where f.job_id = j.job_id
                        and (f.next_pos < f.tail_pos
                             or exists (select 1 from lease l where l.flow_id = f.flow_id)
                             or f.state <> 'ended' and exists (select 1 from retry r where r.flow_id = f.flow_id))
                  ) as "is_drained!"
           from job j where j.finished_at is null and j.job_id > $1
           order by j.job_id limit $2"#,
        after,
        window,
    )
    .fetch_all(conn)
    .await?;
    let last = looked_at.last().filter(|_| looked_at.len() as i64 == window).map(|job| job.job_id);
    let drained = looked_at.into_iter().filter(|job| job.is_drained).map(|job| job.job_id).collect();
    Ok((drained, last))
}

/// Jobs whose deadline has passed with work left.
pub async fn jobs_past_deadline(conn: &mut PgConnection, most: i64) -> Result<Vec<i64>> {
    query_scalar!(
        r#"select distinct job_id as "job_id!" from flow where deadline_at <= now() and state <> 'ended' limit $1"#,
        most,
    )
    .fetch_all(conn)
    .await
}
