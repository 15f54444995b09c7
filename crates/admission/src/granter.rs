//! Keeps this replica supplied with grants, in one loop for limits and one for budgets. A tick reads the rules in force
//! and exchanges demand and unused grants with PostgreSQL. Between ticks, demand starts a round at once.

use std::{sync::Arc, time::Duration};

use scheduler::backoff;
use tokio::{sync::Notify, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{AdmissionControl, peers};

pub(crate) const TICK_INTERVAL: Duration = Duration::from_millis(250);
/// A grant for a request of a job is kept for this many ticks: longer than the longest back-off. Returned earlier, it would be gone at
/// every retry, and the job would never start.
pub(crate) const GRANT_RETENTION_TICKS: u32 = (backoff::MAX_BACKOFF.as_millis() / TICK_INTERVAL.as_millis()) as u32 + 4;
/// Between two rounds that demand alone starts.
const MIN_ROUND_INTERVAL: Duration = Duration::from_millis(5);

/// Amounts that PostgreSQL grants to replicas and that replicas spend in memory.
pub(crate) trait Grants {
    /// Notified when a call was refused for lack of a grant.
    fn demand(&self) -> &Notify;

    /// Follows what is in force, then makes a round. Tells whether requests of jobs wanted something.
    fn tick(&self, control: &AdmissionControl) -> impl Future<Output = store::Result<bool>> + Send;

    /// One round for those who wait. Tells whether requests of jobs wanted something.
    fn meet_demand(&self, control: &AdmissionControl) -> impl Future<Output = store::Result<bool>> + Send;

    /// The database did not answer.
    fn failed(&self, error: &store::Error);
}

/// Keeps limits in grants, and listens to other replicas on behalf of limits and budgets, until cancelled. The claimer is notified
/// whenever requests of jobs that were refused may try again.
pub async fn run_limits(control: Arc<AdmissionControl>, stop: CancellationToken) {
    tokio::join!(keep(&control.limits, &control, &stop), peers::listen(&control, &stop));
}

/// Keeps budgets in grants until cancelled, in a task of its own: a round of one never waits for a core that the other's round uses,
/// and a panic in one leaves the other running.
pub async fn run_budgets(control: Arc<AdmissionControl>, stop: CancellationToken) {
    keep(&control.budgets, &control, &stop).await;
}

async fn keep(grants: &impl Grants, control: &AdmissionControl, stop: &CancellationToken) {
    let mut ticks = tokio::time::interval(TICK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let done = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => grants.tick(control).await,
            () = grants.demand().notified() => grants.meet_demand(control).await,
        };
        match done {
            Ok(true) => control.work.notify(),
            Ok(false) => {}
            Err(error) => grants.failed(&error),
        }
        tokio::time::sleep(MIN_ROUND_INTERVAL).await;
    }
}
