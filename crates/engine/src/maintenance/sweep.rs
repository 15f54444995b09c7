//! Removes rows that nobody needs any more.

use std::time::Duration;

use admission::budgets;

use crate::{Engine, lanes};

/// Alerts are listed for this long.
const ALERT_RETENTION: Duration = Duration::from_secs(90 * 24 * 3600);
/// Pauses that are removed in one statement.
const PAUSES_AT_ONCE: i64 = 5_000;

/// Removes closing lanes that are empty, abandoned uploads, old idempotency keys, messages and alerts, pauses of jobs that ended, and
/// budgets' cells of windows that are over. A chore.
pub async fn sweep(engine: &Engine) -> store::Result<()> {
    lanes::forget_drained(engine).await?;
    let mut conn = engine.pools.work.acquire().await?;
    store::ingest::sweep(&mut conn).await?;
    store::idempotency::prune(&mut conn).await?;
    store::outbox::prune(&mut conn, engine.settings.retention).await?;
    store::alert::prune(&mut conn, ALERT_RETENTION).await?;
    while store::pause::forget(&mut conn, PAUSES_AT_ONCE).await? >= PAUSES_AT_ONCE as u64 {}
    drop(conn);
    budgets::sweep(&engine.control).await
}

#[cfg(test)]
mod tests {
    use domain::{JobId, PauseReason};
    use store::{PgPool, pause::NewPause};

    use super::*;
    use crate::testing;

    #[sqlx::test(migrations = "../../migrations")]
    async fn the_pause_of_a_job_that_is_gone_is_removed(pool: PgPool) {
        let (engine, _) = testing::engine(&pool, Duration::from_secs(30)).await;
        let mut conn = pool.acquire().await.unwrap();
        let job = JobId(7);
        let pause =
            NewPause { job, reason: PauseReason::Guard, part_id: 3, detail: "why", needs: 5, at: engine.clock.now() };
        store::pause::put(&mut conn, pause).await.unwrap();
        assert_eq!(store::pause::of_job(&mut conn, job).await.unwrap().len(), 1);
        sweep(&engine).await.unwrap();
        assert!(store::pause::of_job(&mut conn, job).await.unwrap().is_empty());
    }
}
