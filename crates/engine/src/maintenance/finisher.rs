//! Ends jobs whose last request was settled, and what is left of jobs past their deadline.

use std::{sync::Arc, time::Duration};

use domain::{Action, JobId, JobState};
use store::{
    audit::{self, Entry},
    job::{EndAs, Scope},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    Engine,
    jobs::{Finish, finish_if_drained, finish_plain, release_followers},
};

/// The least time between two passes over the same busy job.
const DEBOUNCE: Duration = Duration::from_millis(50);
const ERROR_BACKOFF: Duration = Duration::from_millis(500);
/// Jobs that nobody touched, such as those of a process that died, are looked for this often.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Jobs examined in one sweep: a million waiting jobs must not be scanned every few seconds.
const WINDOW: i64 = 10_000;
/// Jobs past their deadline that are looked for at once.
const EXPIRED: i64 = 100;
/// Jobs that are ended in one transaction.
const AT_ONCE: usize = 256;

pub async fn run(engine: Arc<Engine>, stop: CancellationToken) {
    let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
    let mut swept_to = 0;
    loop {
        let swept = tokio::select! {
            () = stop.cancelled() => return,
            () = engine.settler.touch.notified() => false,
            _ = sweep.tick() => true,
        };
        if let Err(error) = pass(&engine, swept.then_some(&mut swept_to)).await {
            warn!(%error, "Jobs could not be ended; trying again");
            tokio::time::sleep(ERROR_BACKOFF).await;
        }
        tokio::time::sleep(DEBOUNCE).await;
    }
}

/// Looks at the jobs that were touched; those that it could not end because of an error stay touched.
async fn pass(engine: &Engine, swept_to: Option<&mut i64>) -> store::Result<()> {
    let touched: Vec<i64> = engine.settler.take_touched().into_iter().collect();
    look(engine, &touched, swept_to).await.inspect_err(|_| engine.settler.touched(touched.iter().copied()))
}

async fn look(engine: &Engine, touched: &[i64], swept_to: Option<&mut i64>) -> store::Result<()> {
    let mut conn = engine.pools.work.acquire().await?;
    let mut drained = store::flow::drained(&mut conn, touched).await?;
    if let Some(swept_to) = swept_to {
        loop {
            let expired = store::flow::jobs_past_deadline(&mut conn, EXPIRED).await?;
            for job in &expired {
                expire(engine, &mut conn, JobId(*job)).await?;
            }
            if (expired.len() as i64) < EXPIRED {
                break;
            }
        }
        for job in store::dependency::overlooked(&mut conn, 100).await? {
            let mut tx = store::begin(&mut conn).await?;
            store::job::lock(&mut tx, Scope::All, JobId(job)).await?;
            release_followers(engine, &mut tx, JobId(job)).await?;
            tx.commit().await?;
        }
        let (left, last) = store::flow::jobs_to_finish(&mut conn, *swept_to, WINDOW).await?;
        *swept_to = last.unwrap_or(0);
        drained.extend(left);
    }
    let mut rest = Vec::new();
    for jobs in drained.chunks(AT_ONCE) {
        rest.extend(finish_plain(engine, &mut conn, jobs).await?);
    }
    for job in rest {
        while finish(engine, &mut conn, JobId(job)).await? == Finish::More {}
    }
    Ok(())
}

async fn finish(engine: &Engine, conn: &mut store::PgConnection, id: JobId) -> store::Result<Finish> {
    let mut tx = store::begin(conn).await?;
    let finished = finish_if_drained(engine, &mut tx, id).await?;
    tx.commit().await?;
    Ok(finished)
}

async fn expire(engine: &Engine, conn: &mut store::PgConnection, id: JobId) -> store::Result<()> {
    let mut tx = store::begin(conn).await?;
    match store::job::lock(&mut tx, Scope::All, id).await? {
        Some(state) if !state.is_terminal() => {
            // A paused job expires like any other.
            if state == JobState::Paused {
                store::job::resume(&mut tx, id).await?;
            }
            store::job::end_waiting(&mut tx, id, EndAs::Expired).await?;
            let entry = Entry { job_id: id.0, key_id: None, action: Action::Expire, details: serde_json::json!({}) };
            audit::record(&mut tx, entry).await?;
        }
        _ => return Ok(()),
    }
    tx.commit().await?;
    while finish(engine, conn, id).await? == Finish::More {}
    Ok(())
}

#[cfg(test)]
mod tests;
