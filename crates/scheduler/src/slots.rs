//! This replica's slots: how many requests of jobs and synchronous calls run here, for whom, and what they have used.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use domain::{Lane, catalog::LaneRule};
use foldhash::HashMap;
use tokio::sync::Notify;

use super::{
    lane_scheduler::{self, Asking, Standing, Turn},
    slot_time::{self, Account, FIRST_GUESS},
};

/// Accounts of teams that run nothing are kept up to this many.
const ACCOUNTS: usize = 100_000;

/// See [`Slots::bill`].
#[derive(Debug, Clone, Copy)]
pub struct Bill {
    pub due: i64,
    pub cost: u64,
    pub known: u64,
}

#[derive(Debug, Default)]
struct Table {
    all: Account,
    lanes: HashMap<Lane, Turn>,
    shares: HashMap<(Lane, i64), Account>,
}

impl Table {
    /// What a call is taken to use as long as nothing is known of its team's.
    fn guess(&self) -> u64 {
        self.all.cost(FIRST_GUESS)
    }
}

#[derive(Debug)]
pub struct Slots {
    total: usize,
    began: Instant,
    table: Mutex<Table>,
    freed: Notify,
    /// A synchronous call ended for which requests may have waited.
    left: Notify,
}

impl Slots {
    /// None in a process that runs no requests of jobs: nothing here bounds its synchronous calls.
    pub fn new(total: usize) -> Arc<Self> {
        let (began, table) = (Instant::now(), Mutex::default());
        Arc::new(Self { total, began, table, freed: Notify::new(), left: Notify::new() })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn now(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    pub fn total(&self) -> usize {
        self.total
    }
    pub fn free(&self) -> usize {
        self.total.saturating_sub(self.table().all.running())
    }

    /// How long free slots are collected before a claim; short compared with a call.
    pub fn batch_window(&self) -> Duration {
        slot_time::batch_window(&self.table().all)
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

    /// Waits until a synchronous call ends for which requests may have waited.
    pub async fn left(&self) {
        self.left.notified().await;
    }

    /// The most slots of a lane, if it has a maximum; at least one, so that a small replica serves it at all.
    pub fn most(&self, rule: &LaneRule) -> Option<usize> {
        (self.total > 0 && rule.max_percent < 100).then(|| (self.total * usize::from(rule.max_percent) / 100).max(1))
    }

    /// How the lanes stand, in the order asked; see [`lane_scheduler::look`].
    pub fn lanes(&self, asking: &[Asking<Lane>]) -> Vec<Standing> {
        let (now, mut table) = (self.now(), self.table());
        let guess = table.guess();
        lane_scheduler::look(&mut table.lanes, asking, self.total, now, guess)
    }

    /// The claim under way fills so many slots of the lane, once it is committed.
    pub fn claims(&self, lane: &Lane, n: usize) {
        if let Some(turn) = self.table().lanes.get_mut(lane) {
            turn.claiming = n;
        }
    }

    /// Records the virtual time up to which a claim served the lane.
    pub fn served(&self, lane: &Lane, served_up_to: i64) {
        lane_scheduler::served(&mut self.table().lanes, lane, served_up_to, self.now());
    }

    /// For each team in a lane, with what is `known` of its calls: the slot-time it used here since it was last asked for, what
    /// one more call of it will use, and what is known now; in µs, and 0 is nothing known.
    pub fn bill(&self, shares: impl Iterator<Item = (Lane, i64, u64)>) -> Vec<Bill> {
        let (now, mut table) = (self.now(), self.table());
        let guess = table.guess();
        if table.shares.len() > ACCOUNTS {
            table.shares.retain(|_, account| account.running() > 0);
        }
        let mut bill = |(lane, team_id, known): (Lane, i64, u64)| {
            let Some(account) = table.shares.get_mut(&(lane, team_id)) else {
                return Bill { due: 0, cost: if known == 0 { guess } else { known }, known };
            };
            let known = account.learn(known);
            let cost = if known == 0 { guess } else { known };
            Bill { due: account.bill(now, cost), cost, known }
        };
        shares.map(&mut bill).collect()
    }

    /// Takes one; the claim has made sure that it is free, and has put `charged` µs of slot-time on the team's bill for it.
    pub fn take(self: &Arc<Self>, lane: &Lane, team_id: i64, charged: u64) -> SlotGuard {
        let (now, mut table) = (self.now(), self.table());
        table.all.start(now);
        let turn = table.lanes.entry(lane.clone()).or_default();
        turn.account.start(now);
        turn.claiming = turn.claiming.saturating_sub(1);
        let account = table.shares.entry((lane.clone(), team_id)).or_default();
        account.start(now);
        account.billed(charged);
        SlotGuard { slots: Arc::clone(self), share: (lane.clone(), team_id), taken: now }
    }

    /// Counts a synchronous call in its lane, unless that has its `most`. `again`: it was refused a moment ago.
    pub fn enter(self: &Arc<Self>, lane: &Lane, most: Option<usize>, again: bool) -> Option<CallGuard> {
        let (now, mut table) = (self.now(), self.table());
        let turn = table.lanes.entry(lane.clone()).or_default();
        match (turn.calls.start(turn.account.running() + turn.claiming, most, now), most) {
            (true, _) => {
                if again {
                    turn.calls.came_again();
                }
                Some(CallGuard { slots: Arc::clone(self), lane: lane.clone(), most, started: now })
            }
            (false, Some(most)) if !again => {
                turn.calls.refused(most, now);
                None
            }
            (false, _) => None,
        }
    }
}

/// A slot in use; free again when it is dropped.
#[derive(Debug)]
pub struct SlotGuard {
    slots: Arc<Slots>,
    share: (Lane, i64),
    taken: u64,
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        let (now, mut table) = (self.slots.now(), self.slots.table());
        table.all.end(self.taken, now);
        if let Some(turn) = table.lanes.get_mut(&self.share.0) {
            turn.account.end(self.taken, now);
        }
        if let Some(account) = table.shares.get_mut(&self.share) {
            account.end(self.taken, now);
        }
        drop(table);
        self.slots.freed.notify_one();
    }
}

/// A synchronous call under way; it counts until this is dropped.
#[derive(Debug)]
pub struct CallGuard {
    slots: Arc<Slots>,
    lane: Lane,
    most: Option<usize>,
    started: u64,
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        let (now, mut table) = (self.slots.now(), self.slots.table());
        let Some(turn) = table.lanes.get_mut(&self.lane) else { return };
        turn.calls.end(self.started, now);
        let waited_for = turn.calls.hold_up_queue(self.most, now);
        drop(table);
        if waited_for {
            self.slots.left.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
