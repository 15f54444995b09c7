//! Keeps this replica in grants: follows the budgets in force, asks as calls need it, and gives back what is not needed.

use std::sync::atomic::Ordering;

use tokio::sync::Notify;
use tracing::warn;

use super::{
    Budgets,
    collect_demand::Occasion,
    grant_round::exchange,
    prove::prove,
    revision_watch::{count, follow},
};
use crate::{AdmissionControl, granter::Grants};

impl Grants for Budgets {
    fn demand(&self) -> &Notify {
        &self.demand
    }

    async fn tick(&self, control: &AdmissionControl) -> store::Result<bool> {
        look(control).await
    }

    async fn meet_demand(&self, control: &AdmissionControl) -> store::Result<bool> {
        round(control, Occasion::Demand).await
    }

    fn failed(&self, error: &store::Error) {
        warn!(%error, "Budgets could not be exchanged with the database; what they limit waits");
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
