//! Follows the operator's catalog: the active version is the same on all replicas within a second.

use std::{sync::Arc, time::Duration};

use domain::{
    Catalog,
    catalog::{BadLanes, check_lanes},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    Engine, budgets,
    catalog::{ActiveCatalog, BadCatalog},
    lanes, limits,
};

const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("with the lanes that were declared through the API (see `tollway lanes`): {0}")]
    Lanes(#[from] BadLanes),
    #[error("budgets.{name}: {error}")]
    Budget { name: String, error: budgets::BudgetError },
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Applies a file's catalog: makes it the active version if it differs, with its lanes, teams and limits. One transaction.
/// Lanes that the API declared stay beside the file's.
pub async fn apply_catalog(conn: &mut store::PgConnection, catalog: &Catalog, by: &str) -> Result<i64, ApplyError> {
    store::config::lock(conn).await?;
    store::lane::follow_file(conn, catalog.lanes.iter(), by).await?;
    let lanes = lanes::merged(&store::lane::list(conn).await?);
    if !lanes.is_empty() {
        check_lanes(&lanes)?;
    }
    let catalog = Catalog { lanes, ..catalog.clone() };
    let applied = store::config::apply(conn, &catalog, by).await?;
    limits::apply(conn, &catalog).await?;
    budgets::follow_file(conn, &catalog, by).await.map_err(|(name, error)| ApplyError::Budget { name, error })?;
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
            () = tokio::time::sleep(LOOK) => {}
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
            limits::reload(engine).await?;
            engine.catalog.replace(active);
            engine.bell.ring();
        }
        // Such as a credential that this replica was not given. It goes on as it was, and says so until it is mended.
        Err(reason) => complain(next.version, &reason),
    }
    Ok(())
}

fn complain(version: i64, reason: &BadCatalog) {
    error!(version, %reason, "The active configuration cannot be used here; going on with the one before");
}
