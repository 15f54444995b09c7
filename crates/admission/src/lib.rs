//! Decides whether a call may start now. Limits and budgets grant it, and one [`Admission`] keeps their permits and
//! reservations until the call has ended. Both share [`AdmissionControl`]. Nothing here knows of jobs or HTTP.

pub mod admission;
pub mod budgets;
pub mod catalog;
pub mod clock;
pub mod fit;
pub mod granter;
pub mod limits;
mod notifier;
mod peers;
pub mod route;
pub mod worst_case;

#[cfg(test)]
mod testing;

use store::Pools;

pub use admission::{Admission, Placement};
pub use notifier::WorkNotifier;

use self::{budgets::Budgets, catalog::CatalogWatch, clock::Clock, limits::Limiter, route::Health};

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
    /// Which deployments take calls, as this replica sees them.
    pub health: Health,
}

impl AdmissionControl {
    /// With nothing limited yet: [`crate::limits::reload`] and [`crate::budgets::follow`] read what is in force.
    pub fn new(pools: Pools, worker_id: i64, clock: Clock, catalog: CatalogWatch, work: WorkNotifier) -> Self {
        Self {
            pools,
            worker_id,
            clock,
            catalog,
            work,
            limits: Limiter::default(),
            budgets: Budgets::default(),
            health: Health::default(),
        }
    }
}
