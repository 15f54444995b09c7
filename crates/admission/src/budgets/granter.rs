//! Keeps this replica supplied with grants: follows the budgets in force, requests grants on demand, and returns unused
//! ones.

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
        warn!(%error, "Budget grants could not be exchanged with the database; calls that need more wait");
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

/// Rounds are serialised, so that the last row in Postgres matches this replica's memory.
async fn round(control: &AdmissionControl, occasion: Occasion) -> store::Result<bool> {
    let _alone = control.budgets.exchange.lock().await;
    exchange(control, occasion).await
}

/// Returns the whole unreserved grant; called when the process ends.
pub async fn give_back(control: &AdmissionControl) -> store::Result<()> {
    round(control, Occasion::End).await.map(drop)
}
