//! What ledger rows add to budgets, in the transaction that inserts them.

use domain::LedgerRow;
use store::PgConnection;

use super::{Budgets, book::Book};

/// Counts the rows under all budgets that are in force, those included of which this replica has not heard yet.
pub async fn book<'r>(
    conn: &mut PgConnection,
    budgets: &Budgets,
    rows: impl Iterator<Item = &'r LedgerRow> + Clone + Send,
) -> store::Result<()> {
    let revision = store::budget::revision_kept(conn).await?;
    let known = {
        let book = budgets.book();
        (book.revision == revision).then(|| book.spends(rows.clone()))
    };
    let spends = match known {
        Some(spends) => spends,
        None => Book::new(revision, store::budget::active(conn).await?, &Book::default()).spends(rows),
    };
    let parts = budgets.parts.ids(conn, spends.parts()).await?;
    store::budget::add(conn, &spends.with_ids(&parts)).await
}
