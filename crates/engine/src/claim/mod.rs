//! Claiming: which waiting requests run next. `fill` decides, `once` does it in one transaction, `run` keeps the slots full.

pub mod fill;
mod once;
mod request;
mod slots;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use metrics::{counter, histogram};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use request::{JobInfo, Request};
pub use slots::{SlotGuard, Slots};

use crate::Engine;

/// Without a notification the queue is looked at this often.
const POLL: Duration = Duration::from_millis(500);
/// When all candidates were locked by other claims.
const CONTENDED: Duration = Duration::from_millis(10);
const AFTER_ERROR: Duration = Duration::from_millis(250);

/// Wakes an idle claimer: work came, a slot or a grant was had.
#[derive(Debug, Default)]
pub struct Bell(Notify);

impl Bell {
    pub fn ring(&self) {
        self.0.notify_one();
    }
    async fn heard(&self) {
        self.0.notified().await;
    }
}

/// What a claim found.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// As much as was asked for, or all there was; look again when a slot is free.
    Some(usize),
    /// Somebody else holds what there is.
    Contended,
    /// Nothing can run now; look again after this at the latest.
    Nothing { look_again: Duration },
}

/// Claims as slots become free, and hands what it claimed to the workers, until cancelled. A claim never takes more than can
/// start at once.
pub async fn run(engine: Arc<Engine>, work: mpsc::Sender<Arc<Request>>, stop: CancellationToken) {
    // Small claims cost as many round trips as large ones: wait until an eighth of the slots is free, or a moment has passed.
    let enough = (engine.settings.slots / 8).max(1);
    while !stop.is_cancelled() {
        if engine.slots.free() < enough {
            tokio::select! {
                () = stop.cancelled() => return,
                () = engine.slots.freed(enough) => {}
                () = tokio::time::sleep(Duration::from_millis(3)) => {}
            }
        }
        if engine.slots.free() == 0 || !engine.fence.may_start() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = engine.slots.freed(1) => {}
                () = tokio::time::sleep(POLL) => {}
            }
            continue;
        }
        let (began, free) = (Instant::now(), engine.slots.free());
        let pause = match once::claim(&engine).await {
            Ok((requests, found)) => {
                histogram!("tollway_claim_duration_seconds").record(began.elapsed().as_secs_f64());
                counter!("tollway_claimed_total").increment(requests.len() as u64);
                for request in requests {
                    // The channel holds as many as there are slots.
                    if work.send(request).await.is_err() {
                        return;
                    }
                }
                match found {
                    Found::Some(_) => continue,
                    Found::Contended => CONTENDED,
                    Found::Nothing { look_again } => look_again.min(POLL),
                }
            }
            Err(error) => {
                warn!(%error, "Nothing could be claimed; trying again");
                AFTER_ERROR
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = engine.bell.heard() => {}
            // What is free now may be reserved for others; what becomes free need not be.
            () = engine.slots.freed((free + enough).min(engine.settings.slots)), if free < engine.settings.slots => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}
