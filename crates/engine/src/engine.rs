//! What all steps share: connections, time, the operator's catalog, and the replica's own state.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use admission::{
    AdmissionControl, WorkNotifier,
    catalog::{ActiveCatalog, CatalogWatch},
    clock::Clock,
};
use chrono::{DateTime, Utc};
use notify::{
    Notifier,
    alerts::{Notices, Receiver},
};
use scheduler::Slots;
use secrecy::SecretBox;
use store::Pools;
use tracing::warn;

use crate::{
    admit::KeyCache,
    call::Providers,
    direct::{Calls, IntentQueue, Intents},
    fence::{Fence, Live},
    route::Health,
    settle::{Queue, Settler},
    submit::{Places, Required},
};

/// Figures that the operator sets for one process. Defaults are in [`Settings::default`].
#[derive(Debug, Clone)]
pub struct Settings {
    /// Requests of jobs under way at once in this process.
    pub slots: usize,
    /// How long a silent worker keeps what it holds.
    pub lease: Duration,
    /// How long running calls may go on after a shutdown began.
    pub drain: Duration,
    /// Bodies and results are purged this long after their job ended.
    pub retention: Duration,
    /// The largest synchronous body, in bytes.
    pub max_body: usize,
    /// The most lines of one job.
    pub max_lines: i32,
    /// The most bytes of one upload, decompressed.
    pub max_upload: u64,
    /// Uploads under way at once.
    pub max_uploads: usize,
    /// How fast each of them must come in.
    pub uploads: Required,
    /// After a shutdown began: how long new connections and requests are still taken.
    pub shutdown_delay: Duration,
    /// Connections of callers at once, of all and of one address.
    pub connections: Connections,
    /// Hosts on private addresses may receive webhooks.
    pub webhooks_to_private_hosts: bool,
    /// Who is told of alerts.
    pub alerts: Vec<Receiver>,
}

/// How many connections callers may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    pub most: usize,
    pub per_address: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            slots: 256,
            lease: Duration::from_secs(30),
            drain: Duration::from_secs(30),
            retention: Duration::from_secs(30 * 24 * 3600),
            max_body: 8 << 20,
            max_lines: 5_000_000,
            max_upload: 20 << 30,
            max_uploads: 32,
            uploads: Required::default(),
            shutdown_delay: Duration::from_secs(5),
            connections: Connections { most: 10_000, per_address: 5_000 },
            webhooks_to_private_hosts: false,
            alerts: Vec::new(),
        }
    }
}

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
            places: Places::new(settings.max_uploads, settings.uploads),
            health: Health::default(),
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
    /// Limits and budgets.
    pub control: Arc<AdmissionControl>,
    /// Uploads that this process has room for.
    pub places: Places,
    pub health: Health,
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
