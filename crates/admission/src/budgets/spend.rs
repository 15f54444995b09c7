//! What ledger rows add to budgets, in the transaction that inserts them.

use domain::LedgerRow;
use store::PgConnection;

use super::{Budgets, book::Book};

/// Whose calls the rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Of this process, which knows what its calls are under.
    Ours,
    Others,
}

/// Counts the rows under all budgets that are in force, those included of which this replica has not heard yet. `revision`: that in
/// force, as [`store::ledger::insert`] gave it in this transaction.
pub async fn book<'r>(
    conn: &mut PgConnection,
    budgets: &Budgets,
    rows: impl Iterator<Item = &'r LedgerRow> + Clone + Send,
    revision: i64,
    whose: Whose,
) -> store::Result<()> {
    let known = {
        let book = budgets.book();
        (book.revision == revision).then(|| book.spends(rows.clone()))
    };
    let mut spends = match known {
        Some(spends) => spends,
        None => Book::new(revision, store::budget::active(conn).await?, &Book::default()).spends(rows.clone()),
    };
    let jobs = rows.clone().filter_map(|row| row.job_id);
    let capped = match whose {
        Whose::Ours => budgets.parts.capped(jobs),
        Whose::Others => store::budget::capped(conn, &jobs.collect::<Vec<_>>()).await?.into_iter().collect(),
    };
    spends.add_capped(rows, &capped);
    let parts = budgets.parts.ids(conn, spends.parts()).await?;
    store::budget::add(conn, &spends.with_ids(&parts)).await
}
