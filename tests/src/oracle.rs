//! Oracle O: what must hold after every story, however its processes died. Jobs add up, the provider's own journal and the
//! ledger tell the same calls, nothing is held by anybody, and lake and report say what the ledger says.

pub mod budgets;
mod calls;
pub mod idle;
mod jobs;
mod lake;

pub use lake::{DOLLAR, pico, when_free};

use crate::{database::Database, gateway::Gateway, simulator::Simulator};

/// Waits until nothing is under way, then looks at everything. The gateway runs.
pub async fn check(db: &Database, simulator: &Simulator, gateway: &Gateway) {
    idle::wait(db).await;
    jobs::check(db).await;
    calls::check(db, simulator).await;
    budgets::check(db).await;
    lake::check(db, gateway).await;
    let log = gateway.log();
    let panics: Vec<&str> = log.lines().filter(|line| line.contains("panicked")).collect();
    assert!(panics.is_empty(), "{panics:#?}");
}
