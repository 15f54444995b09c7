//! Declaring budgets, by file and by API.

use std::collections::{BTreeMap, BTreeSet};

use domain::{
    Action, Budget, Catalog, Object,
    budget::{BadBudget, Known, check, check_beside, check_name},
};
use serde_json::json;
use store::{
    PgConnection,
    audit::{self, Change},
    budget::{BudgetRow, Declarer},
};

use super::{
    in_force::{InForce, in_force, wait_until_in_force},
    revision_watch::{count, follow},
};
use crate::AdmissionControl;

#[derive(Debug, thiserror::Error)]
pub enum BudgetError {
    #[error(transparent)]
    Bad(#[from] BadBudget),
    #[error("budget {0} is declared in tollway.toml; change it there and apply the file")]
    FileManaged(String),
    #[error("there is no budget {0:?}")]
    NotFound(String),
    #[error("the database cannot be reached")]
    Unavailable(#[from] store::Error),
}

/// Declares or changes a budget, and waits for a bounded time until all replicas enforce it. `by`: the id of the key
/// that asks.
pub async fn set(control: &AdmissionControl, name: &str, budget: &Budget, by: &str) -> Result<InForce, BudgetError> {
    check_name(name)?;
    check(budget)?;
    let mut tx = control.pools.api.begin().await?;
    store::budget::lock_changes(&mut tx).await?;
    let rows = store::budget::active(&mut tx).await?;
    check_owner(&rows, name)?;
    let catalog = store::config::load_active(&mut tx).await?.map(|active| active.catalog).unwrap_or_default();
    check_among(&mut tx, &catalog, name, budget, &rows).await?;
    store::budget::set(&mut tx, name, budget, Declarer { is_file: false, by }).await?;
    let before = rows.iter().find(|row| row.name == name).map(|row| &row.budget);
    record(&mut tx, name, before, Some(budget), by).await?;
    store::budget::wake_blocked(&mut tx).await?;
    let revision = store::budget::revision_of(&mut tx, name).await?.map_or(0, |(revision, _)| revision);
    tx.commit().await?;
    follow_at_once(control).await;
    Ok(wait_until_in_force(control, revision, Some(name)).await?)
}

/// Which replicas enforce a budget; `None` if there is no such budget.
pub async fn standing_of(control: &AdmissionControl, name: &str) -> store::Result<Option<InForce>> {
    let revision = store::budget::revision_of(&mut *control.pools.api.acquire().await?, name).await?;
    match revision {
        Some((revision, _)) => in_force(control, revision, Some(name)).await.map(Some),
        None => Ok(None),
    }
}

/// Removes a budget that the API declared, and waits for a bounded time until no replica enforces it.
pub async fn remove(control: &AdmissionControl, name: &str, by: &str) -> Result<InForce, BudgetError> {
    let mut tx = control.pools.api.begin().await?;
    store::budget::lock_changes(&mut tx).await?;
    let rows = store::budget::active(&mut tx).await?;
    check_owner(&rows, name)?;
    let Some(row) = rows.iter().find(|row| row.name == name) else {
        return Err(BudgetError::NotFound(name.chars().take(64).collect()));
    };
    store::budget::remove(&mut tx, name, by).await?;
    record(&mut tx, name, Some(&row.budget), None, by).await?;
    store::budget::wake_blocked(&mut tx).await?;
    let revision = store::budget::revision(&mut tx).await?;
    tx.commit().await?;
    follow_at_once(control).await;
    Ok(wait_until_in_force(control, revision, None).await?)
}

async fn record(
    conn: &mut PgConnection,
    name: &str,
    before: Option<&Budget>,
    after: Option<&Budget>,
    by: &str,
) -> store::Result<()> {
    if before == after {
        return Ok(());
    }
    let change = Change {
        object: Object::Budget(name.to_owned()),
        key_id: Some(by),
        action: if after.is_some() { Action::Set } else { Action::Remove },
        details: json!({ "from": before, "to": after }),
    };
    audit::record_change(conn, change).await
}

fn check_owner(rows: &[BudgetRow], name: &str) -> Result<(), BudgetError> {
    match rows.iter().any(|row| row.name == name && row.is_file_managed) {
        true => Err(BudgetError::FileManaged(name.to_owned())),
        false => Ok(()),
    }
}

/// Applies the change on this replica at once. The others poll for it, and so would this one.
async fn follow_at_once(control: &AdmissionControl) {
    let followed = async {
        follow(control).await?;
        count(control).await
    };
    if let Err(error) = followed.await {
        tracing::warn!(%error, "Budgets could not be read at once");
    }
    control.work.notify();
}

/// Checks that the names in the scope exist and that no other budget counts the same spend.
async fn check_among(
    conn: &mut PgConnection,
    catalog: &Catalog,
    name: &str,
    budget: &Budget,
    rows: &[BudgetRow],
) -> Result<(), BudgetError> {
    let teams = store::team::list(&mut *conn).await?;
    let of_key = match &budget.scope.key {
        Some(key) => store::key::get(&mut *conn, key).await?,
        None => None,
    };
    let has_job = match budget.scope.job {
        Some(job) => store::job::get(conn, store::job::Scope::All, job).await?.is_some(),
        None => false,
    };
    let known = Known {
        teams: teams.iter().map(|team| team.name.as_str()).collect(),
        has_key: of_key.is_some(),
        has_job,
        ..known(catalog)
    };
    let others = rows.iter().filter(|row| row.name != name).map(|row| (row.name.as_str(), &row.budget));
    Ok(check_beside(budget, &known, others)?)
}

fn known(catalog: &Catalog) -> Known<'_> {
    let providers: BTreeSet<&str> = catalog.deployments.values().map(domain::Deployment::provider_name).collect();
    Known { deployments: catalog.deployments.keys().map(String::as_str).collect(), providers, ..Known::default() }
}

/// Makes the file's budgets exactly these. In the transaction that applies the file, after its teams. A name that the API declared
/// becomes the file's.
pub async fn follow_file(conn: &mut PgConnection, catalog: &Catalog, by: &str) -> Result<(), (String, BudgetError)> {
    let unnamed = |error: store::Error| (String::new(), BudgetError::from(error));
    let declared = &catalog.budgets;
    let is_same = |rows: &[BudgetRow]| {
        let of_file: BTreeMap<&String, &Budget> =
            rows.iter().filter(|row| row.is_file_managed).map(|row| (&row.name, &row.budget)).collect();
        of_file == declared.iter().collect()
    };
    // Replicas in a restart loop must not block those that settle.
    if is_same(&store::budget::active(conn).await.map_err(unnamed)?) {
        return Ok(());
    }
    store::budget::lock_changes(conn).await.map_err(unnamed)?;
    for row in store::budget::active(conn).await.map_err(unnamed)? {
        if row.is_file_managed && !declared.contains_key(&row.name) {
            store::budget::remove(conn, &row.name, by).await.map_err(unnamed)?;
        }
    }
    for (name, budget) in declared {
        let named = |error: BudgetError| (name.clone(), error);
        check_name(name).map_err(|bad| named(bad.into()))?;
        check(budget).map_err(|bad| named(bad.into()))?;
        let rows = store::budget::active(conn).await.map_err(unnamed)?;
        // One of the file that is still to be changed may be what this one was.
        let settled: Vec<BudgetRow> = rows
            .into_iter()
            .filter(|row| !row.is_file_managed || declared.get(&row.name) == Some(&row.budget))
            .collect();
        check_among(conn, catalog, name, budget, &settled).await.map_err(named)?;
        store::budget::set(conn, name, budget, Declarer { is_file: true, by }).await.map_err(unnamed)?;
    }
    store::budget::wake_blocked(conn).await.map_err(unnamed)
}
