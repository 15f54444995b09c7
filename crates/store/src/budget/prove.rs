//! Reconciles this replica's reservations of unknown cost with the ledger.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, query};

use super::amount;
use crate::Result;

/// A row of `budget_use` of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnRow {
    pub budget_id: i64,
    pub cell: DateTime<Utc>,
    /// What the ledger says.
    pub spent: i128,
}

/// The rows of a replica that hold something which is neither spent nor reserved nor free, as its granter wrote them last; and those of
/// which more was spent than its granter knew.
pub async fn mismatched(conn: &mut PgConnection, worker_id: i64) -> Result<Vec<OwnRow>> {
    let rows = query!(
        r#"select budget_id, cell, spent::text as "spent!" from budget_use
           where worker_id = $1 and granted <> spent + reserved + free"#,
        worker_id
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| Ok(OwnRow { budget_id: row.budget_id, cell: row.cell, spent: amount(&row.spent)? }))
        .collect()
}

/// Gives back what is not spent of these rows. Their replica holds nothing in them, and is the only one that writes their grants.
pub async fn prove(conn: &mut PgConnection, worker_id: i64, rows: &[OwnRow]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = rows.iter().map(|row| row.budget_id).collect();
    let cells: Vec<DateTime<Utc>> = rows.iter().map(|row| row.cell).collect();
    query!(
        "with own as (
             select u.budget_id, u.cell from budget_use u
             join unnest($2::bigint[], $3::timestamptz[]) as r(budget_id, cell) using (budget_id, cell)
             where u.worker_id = $1
             -- In the order in which settlements take them.
             order by u.budget_id, u.cell for no key update of u
         )
         update budget_use u set granted = u.spent, reserved = 0, free = 0
         from own where u.worker_id = $1 and u.budget_id = own.budget_id and u.cell = own.cell",
        worker_id,
        &ids,
        &cells,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The same of all that a replica has, when it ends and all of its calls are in the ledger.
pub async fn prove_all(conn: &mut PgConnection, worker_id: i64) -> Result<()> {
    query!(
        "with own as (
             select budget_id, cell from budget_use
             where worker_id = $1 and (granted <> spent or reserved <> 0 or free <> 0)
             order by budget_id, cell for no key update
         )
         update budget_use u set granted = u.spent, reserved = 0, free = 0
         from own where u.worker_id = $1 and u.budget_id = own.budget_id and u.cell = own.cell",
        worker_id
    )
    .execute(conn)
    .await?;
    Ok(())
}
