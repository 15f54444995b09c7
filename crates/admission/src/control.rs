//! What limits and budgets share: the database, this replica's identity, time, and the catalog in force.

use store::Pools;

use crate::{WorkNotifier, budgets::Budgets, catalog::CatalogWatch, clock::Clock, limits::Limiter};

/// One per process, shared behind an `Arc`. Its parts are clones of the process's own: they share their state with it.
#[derive(Debug)]
pub struct AdmissionControl {
    pub pools: Pools,
    /// New for every process; grants are held under it.
    pub worker_id: i64,
    pub clock: Clock,
    pub catalog: CatalogWatch,
    /// Notified when a refused job may try again.
    pub work: WorkNotifier,
    pub limits: Limiter,
    pub budgets: Budgets,
}

impl AdmissionControl {
    /// With nothing limited yet: [`crate::limits::reload`] and [`crate::budgets::follow`] read what is in force.
    pub fn new(pools: Pools, worker_id: i64, clock: Clock, catalog: CatalogWatch, work: WorkNotifier) -> Self {
        Self { pools, worker_id, clock, catalog, work, limits: Limiter::default(), budgets: Budgets::default() }
    }
}
