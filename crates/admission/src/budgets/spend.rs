//! What ledger rows add to budgets, in the transaction that inserts them.

use domain::LedgerRow;
use store::PgConnection;

use super::{Budgets, index::BudgetIndex};

/// Which process made the calls of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsOf {
    /// Of this process, which knows what its calls are under.
    ThisProcess,
    Others,
}

/// Counts the rows under all budgets in force, including those that this replica does not know yet. `revision`: that in
/// force, as [`store::ledger::insert`] gave it in this transaction.
pub async fn book<'r>(
    conn: &mut PgConnection,
    budgets: &Budgets,
    rows: impl Iterator<Item = &'r LedgerRow> + Clone + Send,
    revision: i64,
    rows_of: RowsOf,
) -> store::Result<()> {
    let known = {
        let index = budgets.index();
        (index.revision == revision).then(|| index.spends(rows.clone()))
    };
    let mut spends = match known {
        Some(spends) => spends,
        None => {
            BudgetIndex::new(revision, store::budget::active(conn).await?, &BudgetIndex::default()).spends(rows.clone())
        }
    };
    let jobs = rows.clone().filter_map(|row| row.job_id);
    let capped = match rows_of {
        RowsOf::ThisProcess => budgets.sub_budgets.capped(jobs),
        RowsOf::Others => store::budget::capped(conn, &jobs.collect::<Vec<_>>()).await?.into_iter().collect(),
    };
    spends.add_capped(rows, &capped);
    let sub_budgets = budgets.sub_budgets.ids(conn, spends.sub_budgets()).await?;
    store::budget::add(conn, &spends.with_ids(&sub_budgets)).await
}
