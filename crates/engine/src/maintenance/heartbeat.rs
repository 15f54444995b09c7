//! The heartbeat of this process, in database time, and the comparison of its leases in memory with those in Postgres.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use admission::budgets;
use store::retry::NewRetry;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::{Engine, host::hostname};

/// Leases younger than this may belong to a claim whose answer is still on its way.
const CLAIM_GRACE: Duration = Duration::from_secs(15);

pub async fn run(engine: Arc<Engine>, stop: CancellationToken) {
    let lease = engine.settings.lease;
    // What ran was aborted: this process waits until the reaper has booked it, and starts afresh.
    let mut given_up = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(lease / 6) => {}
        }
        // A dead network reports no error: calls in flight must be stopped anyway.
        let holds = !engine.fence.has_lapsed();
        let beaten = tokio::select! {
            beaten = tokio::time::timeout(lease / 3, beat(&engine, lease, &mut given_up)) => beaten,
            () = engine.fence.lapsed(), if holds => Ok(Err(no_answer())),
        };
        if let Err(error) = beaten.unwrap_or_else(|_| Err(no_answer())) {
            warn!(%error, "No heartbeat; nothing new starts once the lease runs out");
        }
        if engine.fence.has_lapsed() && !engine.live.is_empty() {
            // From here on other processes may run its requests, so its own calls must stop.
            give_up(&engine);
            given_up = true;
        }
    }
}

fn no_answer() -> store::Error {
    store::Error::Io(io::ErrorKind::TimedOut.into())
}

fn give_up(engine: &Engine) {
    engine.fence.abort_running();
    engine.live.clear();
}

async fn beat(engine: &Engine, lease: Duration, given_up: &mut bool) -> store::Result<()> {
    let mut conn = engine.pools.work.acquire().await?;
    if *given_up {
        // Its aborted calls must be booked before it may hold anything again under the same id.
        store::worker::expire(&mut conn, engine.worker_id).await?;
    } else {
        let asked = Instant::now();
        if let Some(now) = store::worker::heartbeat(&mut conn, engine.worker_id, lease).await? {
            engine.clock.set(now, asked + asked.elapsed() / 2);
            engine.fence.prolong(lease, asked);
            return release_strangers(engine, &mut conn).await;
        }
        error!("This process was declared dead and its requests were given to others; stopping them and starting over");
        give_up(engine);
        *given_up = true;
    }
    if store::worker::exists(&mut conn, engine.worker_id).await? {
        return Ok(());
    }
    let asked = Instant::now();
    let now =
        store::worker::register(&mut conn, engine.worker_id, &hostname(), &engine.roles, engine.worker_slots(), lease)
            .await?;
    engine.control.limits.start_over();
    engine.control.budgets.start_over();
    budgets::keep_following(&engine.control, &mut conn).await?;
    engine.clock.set(now, asked + asked.elapsed() / 2);
    engine.fence.prolong(lease, asked);
    *given_up = false;
    Ok(())
}

/// Returns leases that this process does not know: their claim was committed, but its acknowledgement was lost. None of
/// them was called.
async fn release_strangers(engine: &Engine, conn: &mut store::PgConnection) -> store::Result<()> {
    let held = store::lease::of_worker(conn, engine.worker_id, CLAIM_GRACE).await?;
    let strangers: Vec<_> = held.into_iter().filter(|lease| !engine.live.contains(&lease.key())).collect();
    if strangers.is_empty() {
        return Ok(());
    }
    warn!(leases = strangers.len(), "Handing back leases of a claim whose acknowledgement was lost");
    let mut tx = store::begin(conn).await?;
    let keys: Vec<_> = strangers.iter().map(store::lease::WorkerLease::key).collect();
    let ended = store::lease::end(&mut tx, &keys).await?;
    let retries: Vec<NewRetry> = strangers
        .iter()
        .filter(|lease| ended.contains(&lease.key()))
        .map(|lease| NewRetry {
            flow_id: lease.flow_id,
            pos: lease.pos,
            epoch: lease.epoch + 1,
            attempt_no: lease.attempt_no - 1,
            failures: lease.failures,
            due_at: engine.clock.now(),
            last_error: Some("claim lost".to_owned()),
            last_deployment: None,
        })
        .collect();
    store::retry::insert(&mut tx, &retries).await?;
    tx.commit().await
}
