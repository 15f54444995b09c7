//! Reconciles the reservations of calls whose cost this replica did not learn with the ledger. The ledger has every
//! call of this replica, no matter which process booked or corrected it.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use store::{
    PgConnection,
    budget::{self, OwnRow},
};

use super::{Budgets, account::Account, rule::BudgetRule};
use crate::AdmissionControl;

const PROOF_INTERVAL: Duration = Duration::from_secs(10);
/// By then, the process that took over a call's lease or intent has booked the call.
pub(super) const SETTLED_AFTER: Duration = Duration::from_secs(30);

/// A cell in use, as it stood before the ledger was asked.
struct Seen {
    rule: Arc<BudgetRule>,
    account: Account,
    /// Of what is used, what the ledger need not know yet.
    doubtful: i128,
    epoch: u64,
    is_loaded: bool,
}

/// Compares what this replica used with what the ledger says, every [`PROOF_INTERVAL`].
pub(super) async fn prove(control: &AdmissionControl) -> store::Result<()> {
    let budgets = &control.budgets;
    {
        let mut proven = budgets.proven.lock().unwrap_or_else(PoisonError::into_inner);
        if *proven > Instant::now() || proven.elapsed() < PROOF_INTERVAL {
            return Ok(());
        }
        *proven = Instant::now();
    }
    let _alone = budgets.exchange.lock().await;
    let mut conn = control.pools.work.acquire().await?;
    compare(budgets, &mut conn, control.worker_id).await
}

/// Taken before the ledger is read: a call that ends in between counts on both sides, and nothing spent counts as
/// unspent.
pub(super) async fn compare(budgets: &Budgets, conn: &mut PgConnection, worker_id: i64) -> store::Result<()> {
    let seen = budgets.seen();
    let mut left = Vec::new();
    for row in budget::mismatched(conn, worker_id).await? {
        match seen.get(&(row.budget_id, row.cell)) {
            Some(seen) => seen.set_right(&row),
            // The cell's window is over, and nothing in it is reserved.
            None => left.push(row),
        }
    }
    budget::prove(conn, worker_id, &left).await
}

/// Called when the process ends with nothing in flight and nothing left for others to book: the ledger has all of its
/// calls.
pub async fn prove_left(control: &AdmissionControl, conn: &mut PgConnection) -> store::Result<()> {
    if control.budgets.calls.all().is_empty() {
        budget::prove_all(conn, control.worker_id).await?;
    }
    Ok(())
}

impl Budgets {
    fn seen(&self) -> HashMap<(i64, DateTime<Utc>), Seen> {
        let mut rules = self.index().rules.clone();
        rules.extend(self.sub_budgets.all());
        let mut seen = HashMap::new();
        for rule in rules {
            let Some(id) = rule.known_id() else { continue };
            let mut state = rule.state();
            let epoch = state.epoch;
            for cell in &mut state.cells {
                cell.doubts.retain(|(since, _)| since.elapsed() < SETTLED_AFTER);
                let doubtful = cell.unknown + cell.doubts.iter().map(|(_, amount)| amount).sum::<i128>();
                let (account, is_loaded) = (cell.account, cell.is_loaded);
                seen.insert(
                    (id, cell.span.start),
                    Seen { rule: Arc::clone(&rule), account, doubtful, epoch, is_loaded },
                );
            }
        }
        seen
    }
}

impl Seen {
    fn set_right(&self, row: &OwnRow) {
        let mut state = self.rule.state();
        if !self.is_loaded || state.epoch != self.epoch {
            return;
        }
        let Some(cell) = state.cells.iter_mut().find(|cell| cell.span.start == row.cell) else { return };
        cell.account.used -= self.account.unconfirmed(row.spent, self.doubtful);
        // A call that is committed but not settled yet looks like one that another process booked; at the next
        // comparison it does not.
        let missing = cell.account.missing(row.spent);
        cell.account.used += missing.min(cell.missing);
        cell.missing = missing;
    }
}
