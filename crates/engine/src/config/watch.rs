//! Follows the operator's catalog: the active version is the same on all replicas within a second.

use std::{sync::Arc, time::Duration};

use admission::{
    budgets,
    catalog::{ActiveCatalog, BadCatalog},
    limits::{self, CheckError, Contradiction},
};
use domain::{
    Action, Catalog, Object,
    catalog::{BadLanes, check_lanes},
};
use serde_json::json;
use store::{
    audit::{self, Change},
    config::Applied,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{changed, lanes};
use crate::Engine;

const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Changes of a file that its line of the audit names.
const NAMED: usize = 50;

#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("with the lanes that were declared through the API (see `tollway lanes`): {0}")]
    Lanes(#[from] BadLanes),
    #[error("budgets.{name}: {error}")]
    Budget { name: String, error: budgets::BudgetError },
    /// Of the file with itself, or with what the API set.
    #[error("{0}")]
    Limits(#[from] Contradiction),
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl From<CheckError> for ApplyError {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Contradiction(contradiction) => contradiction.into(),
            CheckError::Store(error) => error.into(),
        }
    }
}

/// Applies a file's catalog: makes it the active version if it differs, with its lanes, teams and limits. One transaction.
/// Lanes that the API declared stay beside the file's; those that nobody declares any more close.
pub async fn apply_catalog(conn: &mut store::PgConnection, catalog: &Catalog, by: &str) -> Result<i64, ApplyError> {
    store::config::lock(conn).await?;
    store::lane::follow_file(conn, catalog.lanes.iter(), by).await?;
    let lanes = lanes::merged(&store::lane::list(conn).await?);
    if !lanes.is_empty() {
        check_lanes(&lanes)?;
    }
    let before = store::config::load_active(conn).await?.map(|active| active.catalog);
    let lanes = before.iter().fold(lanes, lanes::with_closing);
    let before = before.unwrap_or_default();
    let catalog = Catalog { lanes, ..catalog.clone() };
    let applied = store::config::apply(conn, &catalog, by).await?;
    limits::apply(conn, &catalog).await?;
    budgets::follow_file(conn, &catalog, by).await.map_err(|(name, error)| ApplyError::Budget { name, error })?;
    if let Applied::New(version) = applied {
        // What has been in force is not refused when a gateway starts.
        limits::check(conn, &catalog).await?;
        let mut changed = changed(&before, &catalog);
        let more = changed.split_off(changed.len().min(NAMED));
        let details = json!({ "version": version, "host": by, "changed": changed, "and_more": more.len() });
        let change = Change { object: Object::Config, key_id: None, action: Action::Apply, details };
        audit::record_change(conn, change).await?;
    }
    Ok(applied.version())
}

/// Follows a change that this replica made itself; the others do within a second, and so would this one if it failed.
pub async fn follow_now(engine: &Engine) {
    if let Err(error) = look(engine).await {
        warn!(%error, "The active configuration could not be read at once");
    }
}

pub async fn run(engine: Arc<Engine>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
        if let Err(error) = look(&engine).await {
            warn!(%error, "The active configuration could not be read; going on with the known one");
        }
    }
}

async fn look(engine: &Engine) -> store::Result<()> {
    let known = engine.catalog.get().version;
    let mut conn = engine.pools.work.acquire().await?;
    let Some(next) = store::config::newer_than(&mut conn, known).await? else { return Ok(()) };
    drop(conn);
    match ActiveCatalog::build(next.version, next.catalog) {
        Ok(active) => {
            info!(version = next.version, "Following a new configuration");
            // The caps of a new deployment before the deployment itself. An error leaves both for the next look.
            limits::reload(&engine.control).await?;
            active.odd_prices.iter().for_each(|odd| warn!("{odd}"));
            engine.catalog.replace(active);
            engine.work.notify();
        }
        // Such as a credential that this replica does not have. It keeps the previous version, and logs the error until
        // it is fixed.
        Err(reason) => complain(next.version, &reason),
    }
    Ok(())
}

fn complain(version: i64, reason: &BadCatalog) {
    error!(version, %reason, "The active configuration cannot be used here; going on with the one before");
}
