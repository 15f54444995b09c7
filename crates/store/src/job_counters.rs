//! Folds the per-worker counters of a job into one row once it has ended. Otherwise the hot table would keep a row for
//! each worker of every past job.

use sqlx::{PgConnection, query, query_scalar};

use crate::Result;

/// Of the counts behind job `after`, at most `window` rows: those of jobs that ended a minute ago become part of their jobs' own.
/// Inside a transaction. Gives behind which job to go on; `None`: these were the last.
pub async fn fold(conn: &mut PgConnection, after: i64, window: i64) -> Result<Option<i64>> {
    let looked_at =
        query_scalar!("select job_id from job_tally where job_id > $1 order by job_id limit $2", after, window,)
            .fetch_all(&mut *conn)
            .await?;
    let ended = query_scalar!(
        "select job_id from job
         where job_id = any($1) and finished_at < now() - interval '1 minute'
         order by job_id for update skip locked",
        &looked_at,
    )
    .fetch_all(&mut *conn)
    .await?;
    if !ended.is_empty() {
        // In the order of those who settle: a correction may still come.
        query!("select job_id from job_tally where job_id = any($1) order by job_id, worker_id for update", &ended)
            .fetch_all(&mut *conn)
            .await?;
        query!(
            "with gone as (
                 delete from job_tally where job_id = any($1)
                 returning job_id, succeeded, failed, attempts, unpriced, cost_pico
             ), sums as (
                 select job_id, sum(succeeded)::bigint as succeeded, sum(failed)::bigint as failed,
                        sum(attempts)::bigint as attempts, sum(unpriced)::bigint as unpriced, sum(cost_pico) as cost_pico
                 from gone group by job_id
             )
             update job j set succeeded = j.succeeded + s.succeeded, failed = j.failed + s.failed,
                              attempts = j.attempts + s.attempts, unpriced = j.unpriced + s.unpriced,
                              cost_pico = j.cost_pico + s.cost_pico
             from sums s where j.job_id = s.job_id",
            &ended,
        )
        .execute(conn)
        .await?;
    }
    Ok(looked_at.last().copied().filter(|_| looked_at.len() as i64 == window))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use domain::{Job, JobId};
    use sqlx::PgPool;

    use super::*;
    use crate::{
        job::{self, Scope},
        settlement::{Tally, add_tallies},
    };

    async fn shown(conn: &mut PgConnection, id: i64) -> Job {
        job::get(conn, Scope::All, JobId(id)).await.unwrap().unwrap()
    }

    async fn rows(pool: &PgPool) -> i64 {
        sqlx::query_scalar("select count(*) from job_tally").fetch_one(pool).await.unwrap()
    }

    async fn count(conn: &mut PgConnection, worker: i64, jobs: std::ops::Range<i64>, tally: Tally) {
        add_tallies(conn, worker, &jobs.map(|job| (job, tally)).collect::<BTreeMap<_, _>>()).await.unwrap();
    }

    async fn fold_all(pool: &PgPool) {
        let mut after = Some(0);
        while let Some(from) = after {
            let mut tx = pool.begin().await.unwrap();
            after = fold(&mut tx, from, 7).await.unwrap();
            tx.commit().await.unwrap();
        }
    }

    #[sqlx::test(migrations = "../../migrations")]
    async fn what_a_job_shows_is_the_same_before_and_after(pool: PgPool) {
        let mut conn = pool.acquire().await.unwrap();
        sqlx::query("insert into team (name) values ('t')").execute(&pool).await.unwrap();
        sqlx::query(
            "insert into job (job_id, team_id, key_id, lane, state, accepted, finished_at)
             select n, 1, 'k', 'bulk', case n when 20 then 'running' else 'completed' end, 15,
                    case n when 20 then null else now() - interval '2 minutes' end
             from generate_series(1, 20) n",
        )
        .execute(&pool)
        .await
        .unwrap();
        let tally = Tally { succeeded: 4, failed: 1, attempts: 6, unpriced: 2, cost_pico: i128::from(i64::MAX) };
        for worker in 1..4 {
            count(&mut conn, worker, 1..21, tally).await;
        }
        let before = shown(&mut conn, 3).await;
        assert_eq!((before.counts.succeeded, before.counts.failed, before.unpriced), (12, 3, 6));
        fold_all(&pool).await;
        assert_eq!(rows(&pool).await, 3, "those of the job that runs");
        assert_eq!(format!("{:?}", shown(&mut conn, 3).await), format!("{before:?}"));
        assert_eq!(shown(&mut conn, 20).await.counts.succeeded, 12);

        // A correction after that.
        count(&mut conn, 9, 3..4, Tally { cost_pico: -7, ..Tally::default() }).await;
        let corrected = shown(&mut conn, 3).await;
        assert_eq!(corrected.cost_usd.0, before.cost_usd.0 - 7);
        fold_all(&pool).await;
        assert_eq!((rows(&pool).await, format!("{:?}", shown(&mut conn, 3).await)), (3, format!("{corrected:?}")));
    }
}
