//! The fence of this process: whether it may still act for its leases. Heartbeats prolong its own lease in Postgres.
//! When they are missed for too long, nothing new starts; when its requests were given to others, everything in flight
//! is aborted.

use std::{
    sync::{
        Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

#[cfg(test)]
use std::sync::atomic::AtomicU64;

use foldhash::HashSet;
use store::lease::LeaseKey;
use tokio_util::sync::CancellationToken;

use crate::stops::Stops;

#[derive(Debug)]
pub struct Fence {
    valid_until: RwLock<Instant>,
    running: RwLock<CancellationToken>,
    stopping: AtomicBool,
    /// How often anybody asked whether it may start something.
    #[cfg(test)]
    asked: AtomicU64,
    /// What runs, by job.
    pub jobs: Stops,
}

impl Fence {
    pub fn new(lease: Duration, asked: Instant) -> Self {
        Self {
            valid_until: RwLock::new(until(asked, lease)),
            running: RwLock::default(),
            stopping: AtomicBool::new(false),
            #[cfg(test)]
            asked: AtomicU64::default(),
            jobs: Stops::default(),
        }
    }

    /// A heartbeat that was asked for at `asked` succeeded.
    pub fn prolong(&self, lease: Duration, asked: Instant) {
        *self.valid_until.write().unwrap_or_else(PoisonError::into_inner) = until(asked, lease);
    }

    /// Whether calls may begin: the lease is good for some time yet.
    pub fn may_start(&self) -> bool {
        #[cfg(test)]
        self.asked.fetch_add(1, Ordering::Relaxed);
        !self.stopping.load(Ordering::Relaxed) && !self.has_lapsed()
    }

    /// The lease has lapsed: other processes may take over its requests.
    pub fn has_lapsed(&self) -> bool {
        Instant::now() >= *self.valid_until.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it has.
    pub async fn lapsed(&self) {
        while !self.has_lapsed() {
            let until = *self.valid_until.read().unwrap_or_else(PoisonError::into_inner);
            tokio::time::sleep_until(until.into()).await;
        }
    }

    #[cfg(test)]
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// The process is about to end: nothing new starts.
    pub fn stop_starting(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Cancelled when what runs now must stop.
    pub fn running(&self) -> CancellationToken {
        self.running.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What runs stops; what begins from here on may run again.
    pub fn abort_running(&self) {
        let aborted = std::mem::take(&mut *self.running.write().unwrap_or_else(PoisonError::into_inner));
        aborted.cancel();
    }
}

/// A tenth of the lease is kept as a margin; counted from when the heartbeat was asked for, which is before Postgres took its time.
fn until(asked: Instant, lease: Duration) -> Instant {
    asked + lease.mul_f64(0.9)
}

/// The leases this process knows of. Those that Postgres has beyond them come from claims whose acknowledgement was lost.
#[derive(Debug, Default)]
pub struct Live(Mutex<HashSet<LeaseKey>>);

impl Live {
    pub fn insert(&self, keys: impl Iterator<Item = LeaseKey>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(keys);
    }
    pub fn remove<'a>(&self, keys: impl Iterator<Item = &'a LeaseKey>) {
        let mut live = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            live.remove(key);
        }
    }
    pub fn contains(&self, key: &LeaseKey) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
