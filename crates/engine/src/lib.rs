//! The way of a request. Modules stand in the order in which it meets them; `Engine` is what they share.

pub mod fence;
pub mod host;
pub mod intents;
pub mod roles;
pub mod running;
mod settings;
pub mod stops;

pub mod admit;
pub mod call;
pub mod claim;
pub mod config;
pub mod correct;
pub mod executor;
mod failover;
pub mod jobs;
pub mod keys;
pub mod lanes;
pub mod maintenance;
pub mod meter;
pub mod quote;
pub mod results;
pub mod schedules;
pub mod settle;
pub mod submit;
pub mod sync_calls;
pub mod teams;
mod usual;

#[cfg(test)]
mod testing;

use std::{sync::Arc, time::Instant};

use admission::{
    AdmissionControl, WorkNotifier,
    catalog::{ActiveCatalog, CatalogWatch},
    clock::Clock,
};
use chrono::{DateTime, Utc};
use notify::{Notifier, alerts::Notices};
use scheduler::Slots;
use secrecy::SecretBox;
use store::Pools;
use tracing::warn;

use self::{
    admit::KeyCache,
    call::Providers,
    fence::{Fence, Live},
    intents::{IntentQueue, Intents},
    settle::{Queue, Settler},
    submit::UploadPermits,
    sync_calls::Calls,
};
pub use self::{
    roles::Roles,
    running::Running,
    settings::{Connections, Settings, UploadRate},
};

/// What a process knows of itself when it starts.
pub struct Start {
    pub pools: Pools,
    /// New for every process.
    pub worker_id: i64,
    pub roles: Vec<String>,
    pub settings: Settings,
    /// When it asked for its place among the workers, and the database's time then.
    pub asked: Instant,
    pub now: DateTime<Utc>,
    pub catalog: ActiveCatalog,
    pub providers: Providers,
    pub pepper: Arc<SecretBox<[u8; 32]>>,
}

impl Engine {
    /// With the queues that the process's loops empty.
    pub fn new(start: Start) -> (Self, IntentQueue, Queue) {
        let Start { pools, worker_id, roles, settings, asked, now, catalog, providers, pepper } = start;
        let (settler, settlements) = Settler::new();
        let (intents, intent_queue) = Intents::new();
        let slots = worker_slots(&roles, &settings);
        catalog.odd_prices.iter().for_each(|odd| warn!("{odd}"));
        let (clock, catalog, work) = (Clock::new(now), CatalogWatch::new(catalog), WorkNotifier::default());
        let control = AdmissionControl::new(pools.clone(), worker_id, clock.clone(), catalog.clone(), work.clone());
        let control = Arc::new(control);
        let notifier = Arc::new(Notifier {
            pools: pools.clone(),
            clock: clock.clone(),
            receivers: settings.alerts.clone(),
            private_hosts: settings.webhooks_to_private_hosts,
            pepper: Arc::clone(&pepper),
            notices: Notices::default(),
        });
        let engine = Self {
            pools,
            worker_id,
            roles,
            fence: Fence::new(settings.lease, asked),
            live: Live::default(),
            clock,
            catalog,
            keys: KeyCache::new(),
            control,
            upload_permits: UploadPermits::new(settings.max_uploads, settings.uploads),
            notifier,
            slots: Slots::new(slots),
            work,
            settler,
            intents,
            calls: Calls::default(),
            providers,
            pepper,
            settings,
        };
        (engine, intent_queue, settlements)
    }

    /// Requests of jobs that this process runs at once: none without the role.
    pub fn worker_slots(&self) -> usize {
        worker_slots(&self.roles, &self.settings)
    }
}

fn worker_slots(roles: &[String], settings: &Settings) -> usize {
    if roles.iter().any(|role| role == "worker") { settings.slots } else { 0 }
}

/// Shared by everything in the process, behind an `Arc`.
pub struct Engine {
    pub pools: Pools,
    /// New for every process; leases, grants and intents are held under it.
    pub worker_id: i64,
    pub roles: Vec<String>,
    pub settings: Settings,
    pub fence: Fence,
    pub live: Live,
    /// The database's time, kept locally.
    pub clock: Clock,
    pub catalog: CatalogWatch,
    pub keys: KeyCache,
    /// Limits, budgets, and which deployments take calls.
    pub control: Arc<AdmissionControl>,
    /// Uploads that this process has room for.
    pub upload_permits: UploadPermits,
    /// Webhooks and alerts.
    pub notifier: Arc<Notifier>,
    pub slots: Arc<Slots>,
    /// Notified when there may be something to claim.
    pub work: WorkNotifier,
    pub settler: Settler,
    pub intents: Intents,
    /// Synchronous calls under way.
    pub calls: Calls,
    pub providers: Providers,
    /// Keys' MACs and webhooks' secrets are made under it; 32 random bytes from a file.
    pub pepper: Arc<SecretBox<[u8; 32]>>,
}
