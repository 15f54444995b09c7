//! A file's catalog, applied while everything runs.

use admission::{
    budgets,
    catalog::{ActiveCatalog, BadCatalog},
    limits,
};
use domain::Catalog;

use super::{ApplyError, apply_catalog};
use crate::host::hostname;
use crate::{Engine, keys};

/// Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    #[error("the configuration cannot be used: {0}")]
    Bad(#[from] BadCatalog),
    #[error("the configuration cannot be applied: {0}")]
    Apply(#[from] ApplyError),
    #[error("the database cannot be reached: {0}")]
    Unavailable(#[from] store::Error),
}

/// As at a start: refused when this process could not run with it, then applied for all replicas. Gives the version that is
/// active; credentials are read anew even when that is the one before.
pub async fn reload(engine: &Engine, catalog: &Catalog) -> Result<i64, ReloadError> {
    ActiveCatalog::build(0, catalog.clone())?;
    let mut tx = engine.pools.work.begin().await?;
    let version = apply_catalog(&mut tx, catalog, &hostname()).await?;
    let active = store::config::load_active(&mut tx).await?.map(|active| active.catalog).unwrap_or_default();
    let next = ActiveCatalog::build(version, active)?;
    tx.commit().await?;
    // The caps of a new deployment before the deployment itself; granters look again if this failed.
    let _ = limits::reload(&engine.control).await;
    let _ = budgets::follow(&engine.control).await;
    // Somebody else's change may have been followed meanwhile.
    if engine.catalog.get().version <= version {
        engine.catalog.replace(next);
    }
    engine.work.notify();
    keys::see_changes(engine).await;
    Ok(version)
}
