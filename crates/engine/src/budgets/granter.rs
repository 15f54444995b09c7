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
use crate::Engine;

pub(super) const TICK: Duration = Duration::from_millis(250);
/// Between two rounds that demand alone starts.
const SHORTEST: Duration = Duration::from_millis(5);

/// Runs until cancelled. `granted` is called whenever a request of a job that was refused may try again.
pub async fn run(engine: Arc<Engine>, granted: impl Fn() + Send, stop: CancellationToken) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let occasion = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = tick.tick() => Occasion::Tick,
            () = engine.budgets.demand.notified() => Occasion::Demand,
        };
        let done = match occasion {
            Occasion::Tick => look(&engine).await,
            _ => round(&engine, occasion).await,
        };
        match done {
            Ok(true) => granted(),
            Ok(false) => {}
            Err(error) => warn!(%error, "Budgets could not be asked; what they limit waits"),
        }
        tokio::time::sleep(SHORTEST).await;
    }
}

/// What a tick does.
pub async fn look(engine: &Engine) -> store::Result<bool> {
    follow(engine).await?;
    prove(engine).await?;
    if engine.budgets.uncounted.load(Ordering::Acquire) {
        count(engine).await?;
    }
    round(engine, Occasion::Tick).await
}

/// One at a time: what Postgres has last is what this replica knows.
async fn round(engine: &Engine, occasion: Occasion) -> store::Result<bool> {
    let _alone = engine.budgets.exchange.lock().await;
    exchange(engine, occasion).await
}

/// Gives back all that nothing holds; at the end of the process.
pub async fn give_back(engine: &Engine) -> store::Result<()> {
    round(engine, Occasion::End).await.map(drop)
}
