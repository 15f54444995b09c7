//! This replica's slots: how many requests of jobs it runs at once, and for whom.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use domain::Lane;
use tokio::sync::Notify;

#[derive(Debug, Default, Clone)]
pub struct InUse {
    pub total: usize,
    pub by_lane: HashMap<Lane, usize>,
    pub by_share: HashMap<(Lane, i64), usize>,
}

#[derive(Debug)]
pub struct Slots {
    total: usize,
    in_use: Mutex<InUse>,
    /// When each lane last got a slot here.
    served: Mutex<HashMap<Lane, Instant>>,
    began: Instant,
    freed: Notify,
}

impl Slots {
    pub fn new(total: usize) -> Arc<Self> {
        let began = Instant::now();
        Arc::new(Self { total, in_use: Mutex::default(), served: Mutex::default(), began, freed: Notify::new() })
    }

    fn table(&self) -> MutexGuard<'_, InUse> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn total(&self) -> usize {
        self.total
    }
    pub fn free(&self) -> usize {
        self.total.saturating_sub(self.table().total)
    }
    pub fn in_use(&self) -> InUse {
        self.table().clone()
    }

    /// How long ago the lane last got a slot here.
    pub fn waited(&self, lane: &Lane) -> Duration {
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        served.get(lane).unwrap_or(&self.began).elapsed()
    }

    /// Waits until at least `n` are free.
    pub async fn freed(&self, n: usize) {
        loop {
            let next = self.freed.notified();
            if self.free() >= n {
                return;
            }
            next.await;
        }
    }

    /// Takes one; the claim has made sure that it is free.
    pub fn take(self: &Arc<Self>, lane: &Lane, team_id: i64) -> SlotGuard {
        self.served.lock().unwrap_or_else(PoisonError::into_inner).insert(lane.clone(), Instant::now());
        let mut table = self.table();
        table.total += 1;
        *table.by_lane.entry(lane.clone()).or_default() += 1;
        *table.by_share.entry((lane.clone(), team_id)).or_default() += 1;
        SlotGuard { slots: Arc::clone(self), lane: lane.clone(), team_id }
    }
}

/// A slot in use; free again when it is dropped.
#[derive(Debug)]
pub struct SlotGuard {
    slots: Arc<Slots>,
    lane: Lane,
    team_id: i64,
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        let mut table = self.slots.table();
        table.total -= 1;
        if let Some(n) = table.by_lane.get_mut(&self.lane) {
            *n -= 1;
        }
        let share = (self.lane.clone(), self.team_id);
        if let Some(n) = table.by_share.get_mut(&share) {
            *n -= 1;
            if *n == 0 {
                table.by_share.remove(&share);
            }
        }
        drop(table);
        self.slots.freed.notify_one();
    }
}
