//! Keeps this replica in grants: follows the budgets in force, asks as calls need it, and gives back what is not needed.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    follow::{count, follow},
    prove::prove,
    round::{Occasion, exchange},
};
use crate::AdmissionControl;

pub(super) const TICK: Duration = Duration::from_millis(250);
/// Between two rounds that demand alone starts.
const SHORTEST: Duration = Duration::from_millis(5);

/// Runs until cancelled. The claimer is notified whenever a request of a job that was refused may try again.
pub async fn run(control: Arc<AdmissionControl>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let occasion = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = tick.tick() => Occasion::Tick,
            () = control.budgets.demand.notified() => Occasion::Demand,
        };
        let done = match occasion {
            Occasion::Tick => look(&control).await,
            _ => round(&control, occasion).await,
        };
        match done {
            Ok(true) => control.work.notify(),
            Ok(false) => {}
            Err(error) => warn!(%error, "Budgets could not be asked; what they limit waits"),
        }
        tokio::time::sleep(SHORTEST).await;
    }
}

/// What a tick does.
pub async fn look(control: &AdmissionControl) -> store::Result<bool> {
    follow(control).await?;
    prove(control).await?;
    if control.budgets.uncounted.load(Ordering::Acquire) {
        count(control).await?;
    }
    round(control, Occasion::Tick).await
}

/// One at a time: what Postgres has last is what this replica knows.
async fn round(control: &AdmissionControl, occasion: Occasion) -> store::Result<bool> {
    let _alone = control.budgets.exchange.lock().await;
    exchange(control, occasion).await
}

/// Gives back all that nothing holds; at the end of the process.
pub async fn give_back(control: &AdmissionControl) -> store::Result<()> {
    round(control, Occasion::End).await.map(drop)
}
