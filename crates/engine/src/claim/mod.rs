//! Claiming: which waiting requests run next. `transaction` is one claim: it reads what waits, lets `selection` decide with the
//! allocator, writes what `outcome` says of each flow and share, and gives back what did not commit (`pending_claim`). `run` keeps the
//! slots full.

mod by_turns;
mod outcome;
mod pending_claim;
mod request;
mod selection;
mod transaction;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use metrics::{counter, histogram};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use request::{JobInfo, Request};

use crate::Engine;

/// How often the queue is polled without a notification.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// When all candidates were locked by other claims.
const CONTENTION_BACKOFF: Duration = Duration::from_millis(10);
const ERROR_BACKOFF: Duration = Duration::from_millis(250);
/// The widest scan of a claim, in multiples of the usual one.
const MAX_SCAN_FACTOR: i64 = 64;

/// What a claim found.
#[derive(Debug, PartialEq, Eq)]
enum ClaimOutcome {
    /// The claim filled its slots or drained the queue; claim again when a slot is free.
    Some,
    /// Some requests, and more flows that were not examined: a team has many small jobs.
    MoreJobs,
    /// Other claims have locked all candidates.
    Contended,
    /// Every flow that was examined is blocked by limits or providers, and there are more that were not examined.
    AllBlocked,
    /// Nothing can run now; claim again after this at the latest.
    Nothing { look_again: Duration },
}

/// Claims as slots become free, and hands what it claimed to the workers, until cancelled. A claim never takes more than can
/// start at once.
pub async fn run(engine: Arc<Engine>, work: mpsc::Sender<Arc<Request>>, stop: CancellationToken) {
    // Small claims cost as many round trips as large ones: wait until an eighth of the slots is free, or a moment has passed.
    let enough = (engine.settings.slots / 8).max(1);
    let (mut scan_factor, mut was_notified) = (1, false);
    while !stop.is_cancelled() {
        if engine.slots.free() < enough && !was_notified {
            tokio::select! {
                () = stop.cancelled() => return,
                () = engine.work.notified() => {}
                () = engine.slots.freed(enough) => {}
                () = tokio::time::sleep(engine.slots.batch_window()) => {}
            }
        }
        was_notified = false;
        let may_start = engine.fence.may_start();
        if engine.slots.free() == 0 || !may_start {
            tokio::select! {
                () = stop.cancelled() => return,
                // Free slots are no reason to look again while nothing may start.
                () = engine.slots.freed(1), if may_start => {}
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
            continue;
        }
        let (began, free) = (Instant::now(), engine.slots.free());
        let pause = match transaction::claim(&engine, scan_factor).await {
            Ok((requests, found)) => {
                histogram!("tollway_claim_duration_seconds").record(began.elapsed().as_secs_f64());
                counter!("tollway_claimed_total").increment(requests.len() as u64);
                for request in requests {
                    // The channel holds as many as there are slots.
                    if work.send(request).await.is_err() {
                        return;
                    }
                }
                scan_factor = match found {
                    ClaimOutcome::AllBlocked | ClaimOutcome::MoreJobs => (scan_factor * 4).min(MAX_SCAN_FACTOR),
                    _ => (scan_factor / 2).max(1),
                };
                match found {
                    ClaimOutcome::Some | ClaimOutcome::MoreJobs => continue,
                    // A blocked team delays nobody behind it: scan further, but leave the database idle half of the
                    // time.
                    ClaimOutcome::AllBlocked => began.elapsed(),
                    ClaimOutcome::Contended => CONTENTION_BACKOFF,
                    ClaimOutcome::Nothing { look_again } => look_again.min(POLL_INTERVAL),
                }
            }
            Err(error) => {
                warn!(%error, "Nothing could be claimed; trying again");
                ERROR_BACKOFF
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = engine.work.notified() => was_notified = true,
            // What is free now may be reserved for others; what becomes free need not be.
            () = engine.slots.freed((free + enough).min(engine.settings.slots)), if free < engine.settings.slots => {}
            () = left(&engine) => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Synchronous calls ended for which requests may have waited; some more will have, a moment later.
async fn left(engine: &Engine) {
    engine.slots.left().await;
    tokio::time::sleep(engine.slots.batch_window()).await;
}

#[cfg(test)]
mod tests {
    use store::PgPool;

    use super::*;
    use crate::testing;

    /// With the lease in doubt nothing may be claimed, and free slots are no reason to look again at once: the processor is for the
    /// heartbeat that ends the doubt.
    #[sqlx::test(migrations = "../../migrations")]
    async fn a_doubtful_lease_is_waited_out_at_leisure(pool: PgPool) {
        let (engine, _) = testing::engine(&pool, Duration::ZERO).await;
        let (work, stop) = (mpsc::channel(1).0, CancellationToken::new());
        assert!(!engine.fence.may_start() && engine.slots.free() > 0);
        let before = engine.fence.asked();
        // A thread of its own: a loop that never waits would not let this test go on.
        let claiming = std::thread::spawn({
            let (engine, stop) = (Arc::clone(&engine), stop.clone());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            move || runtime.block_on(run(engine, work, stop))
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        let asked = engine.fence.asked() - before;
        engine.fence.prolong(Duration::from_secs(30), Instant::now());
        stop.cancel();
        claiming.join().unwrap();
        assert!((1..=5).contains(&asked), "{asked} looks in a second");
    }
}
