//! Budgets: what is declared, what replicas were granted of it, and what the ledger says was spent. Amounts are pico-USD or tokens;
//! numeric has no type of its own here, so they travel as text, exactly.

mod grant;
mod over;
mod prove;
mod sample;
mod spend;
mod sub_budget;

use domain::Budget;
use sqlx::{PgConnection, query, query_as, query_scalar, types::Json};

pub use grant::{
    Follower, GrantRequest, GrantRow, Locked, Taken, follow, followers, give, lock, replicas, still_follow, taken,
};
pub use over::{Over, OverCall, over};
pub use prove::{OwnRow, mismatched, prove, prove_all};
pub use sample::{Sample, first_samples, forget_samples, keep_samples};
pub use spend::{
    Spend, Standing, Uncounted, Verified, add, close, count, forget, has_uncounted, standing, uncounted, verify,
};
pub use sub_budget::{
    Guarded, SubBudgetKey, cap_job, capped, forget_sub_budgets, guarded, lock_sub_budgets, sub_budget_ids,
};

use crate::Result;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetRow {
    pub budget_id: i64,
    pub name: String,
    pub budget: Budget,
    pub is_file_managed: bool,
    /// The ledger's spend of its window is in what was counted.
    pub is_counted: bool,
}

/// All budgets in force, by name.
pub async fn active(conn: &mut PgConnection) -> Result<Vec<BudgetRow>> {
    let rows = query_as!(
        Row,
        r#"select budget_id, name, document as "document: Json<Budget>", managed_by, counted_at is not null as "is_counted!"
           from budget where disabled_at is null order by name"#
    )
    .fetch_all(conn)
    .await?;
    let row_of = |row: Row| BudgetRow {
        budget_id: row.budget_id,
        name: row.name,
        budget: row.document.0,
        is_file_managed: row.managed_by == "file",
        is_counted: row.is_counted,
    };
    Ok(rows.into_iter().map(row_of).collect())
}

struct Row {
    budget_id: i64,
    name: String,
    document: Json<Budget>,
    managed_by: String,
    is_counted: bool,
}

/// The revision in force, as far as it is committed.
pub async fn revision(conn: &mut PgConnection) -> Result<i64> {
    query_scalar!(r#"select coalesce(max(revision), 0) as "revision!" from budget"#).fetch_one(conn).await
}

/// The revision of one budget in force, and whether its past is counted; `None`: there is no such budget.
pub async fn revision_of(conn: &mut PgConnection, name: &str) -> Result<Option<(i64, bool)>> {
    let row = query!(
        r#"select revision, counted_at is not null as "is_counted!" from budget where name = $1 and disabled_at is null"#,
        name
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| (row.revision, row.is_counted)))
}

/// The same for a transaction that writes to the ledger; until it ends, no budget comes or changes.
pub async fn revision_kept(conn: &mut PgConnection) -> Result<i64> {
    query_scalar!(r#"select tollway_budget_revision() as "revision!""#).fetch_one(conn).await
}

/// Locks out other changes of budgets and writes to the ledger until this transaction ends. Idempotent.
pub async fn lock_changes(conn: &mut PgConnection) -> Result<()> {
    query!("select pg_advisory_xact_lock(hashtext('tollway_budget'))").fetch_one(conn).await?;
    Ok(())
}

/// Who declares a budget.
#[derive(Debug, Clone, Copy)]
pub struct Declarer<'a> {
    pub is_file: bool,
    /// The key, or the host whose file it is.
    pub by: &'a str,
}

/// Declares a budget, or changes it. A change of what it counts ends it and begins another of the same name. After
/// [`lock_changes`], in its transaction.
pub async fn set(conn: &mut PgConnection, name: &str, budget: &Budget, who: Declarer<'_>) -> Result<()> {
    let known = query!(
        r#"select budget_id, document as "document: Json<Budget>", managed_by from budget
           where name = $1 and disabled_at is null"#,
        name
    )
    .fetch_optional(&mut *conn)
    .await?;
    let managed_by = if who.is_file { "file" } else { "api" };
    let cap = budget.cap().to_string();
    match known {
        Some(row) if row.document.0 == *budget && row.managed_by == managed_by => return Ok(()),
        Some(row) if row.document.0.counts_as(budget) => {
            query!(
                "update budget set document = $2, cap = $3::text::numeric, managed_by = $4, revision = nextval('budget_revision'),
                     changed_at = now(), changed_by = $5
                 where budget_id = $1",
                row.budget_id,
                Json(budget) as _,
                cap,
                managed_by,
                who.by,
            )
            .execute(conn)
            .await?;
            return Ok(());
        }
        Some(_) => remove(&mut *conn, name, who.by).await?,
        None => {}
    }
    query!(
        "insert into budget (name, document, cap, managed_by, revision, since, changed_by)
         select $1, $2, $3::text::numeric, $4, r, r, $5 from (select nextval('budget_revision') as r) n",
        name,
        Json(budget) as _,
        cap,
        managed_by,
        who.by,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends a budget; what was counted stays. After [`lock_changes`], in its transaction.
pub async fn remove(conn: &mut PgConnection, name: &str, by: &str) -> Result<()> {
    query!(
        "update budget set disabled_at = now(), revision = nextval('budget_revision'), changed_at = now(), changed_by = $2
         where name = $1 and disabled_at is null",
        name,
        by,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Wakes flows that a budget blocked: the budget was changed.
pub async fn wake_blocked(conn: &mut PgConnection) -> Result<()> {
    let held = query!(
        "update flow set blocked_until = '-infinity'
         where state = 'ready' and blocked_reason like 'budget %' and blocked_until between now() and '9999-01-01'
         returning lane, team_id"
    )
    .fetch_all(&mut *conn)
    .await?;
    let (lanes, teams): (Vec<String>, Vec<i64>) = held.into_iter().map(|row| (row.lane, row.team_id)).unzip();
    if lanes.is_empty() { Ok(()) } else { crate::share::wake(conn, &lanes, &teams).await }
}

/// An amount that the database gave as text.
fn amount(text: &str) -> Result<i128> {
    text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

#[cfg(test)]
mod tests;
