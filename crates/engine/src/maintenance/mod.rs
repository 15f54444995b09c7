//! Maintenance: one small loop for each task that keeps the queue consistent. Scheduled chores are registered in the
//! binary.

mod canceller;
mod finisher;
mod heartbeat;
mod reaper;
mod retry_waker;
mod sweep;

pub use canceller::run as stop_cancelled;
pub use finisher::run as finish_jobs;
pub use heartbeat::run as heartbeat;
pub use reaper::run as reap;
pub use retry_waker::{listen, run as wake_retries};
pub use sweep::sweep;

use crate::Engine;

/// Rows examined in one transaction.
const TALLIES_AT_ONCE: i64 = 2_000;

/// Drops partitions that no job needs any more, and makes those that will be needed. Daily.
pub async fn rotate_partitions(engine: &Engine) -> store::Result<()> {
    let mut conn = engine.pools.work.acquire().await?;
    let mut tx = store::retention::begin_ddl(&mut conn).await?;
    store::retention::make_partitions(&mut tx).await?;
    tx.commit().await?;
    for day in store::retention::droppable_days(&mut conn, engine.clock.now()).await? {
        tracing::info!(%day, "Dropping the bodies and results of a day whose jobs are past their retention");
        let mut tx = store::retention::begin_ddl(&mut conn).await?;
        store::retention::drop_day(&mut tx, day).await?;
        tx.commit().await?;
    }
    while store::retry_lineage::prune(&mut conn, 10_000).await? > 0 {}
    Ok(())
}

/// Vacuums the hot tables, which autovacuum alone leaves to bloat under load.
pub async fn vacuum(engine: &Engine) -> store::Result<()> {
    let mut conn = engine.pools.work.acquire().await?;
    for table in store::retention::HOT_TABLES {
        store::retention::vacuum(&mut conn, table).await?;
    }
    Ok(())
}

/// Puts the counts of jobs that have ended together, out of the hot table.
pub async fn fold_tallies(engine: &Engine) -> store::Result<()> {
    let mut conn = engine.pools.work.acquire().await?;
    let mut after = Some(0);
    while let Some(from) = after {
        let mut tx = store::begin(&mut conn).await?;
        after = store::job_counters::fold(&mut tx, from, TALLIES_AT_ONCE).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Has the queue's statements planned anew once their tables have outgrown the plans.
pub async fn refresh_plans(engine: &Engine) -> store::Result<()> {
    let mut conn = engine.pools.work.acquire().await?;
    for table in store::retention::outgrown_tables(&mut conn).await? {
        store::retention::analyze(&mut conn, &table).await?;
    }
    Ok(())
}
