//! The state of the lanes on one replica: which is next by weight, and which has waited too long.

#[cfg(test)]
mod tests;

use std::hash::Hash;

use foldhash::HashMap;

use super::{
    slot_time::{self, Account, per_weight},
    sync_slots::Calls,
};

/// Shares that another replica's claim holds are not seen for a moment: a lane without any still waits until this has passed.
/// In µs.
const UNSEEN: u64 = 2_000_000;

/// One lane's turn. All times in µs, on one clock of the caller's.
#[derive(Debug, Clone, Default)]
pub struct Turn {
    /// Of its queued requests.
    pub account: Account,
    pub calls: Calls,
    /// Slots of a lane with a maximum that the current claim may fill: no synchronous call starts in them meanwhile.
    pub claiming: usize,
    /// Virtual time: slot-time used divided by weight. Raised to the join time when the lane comes back after being
    /// idle.
    virtual_time: i64,
    /// See [`super::allocator::LaneState::served_up_to`].
    served_up_to: i64,
    /// At the last update, it had requests waiting and was below its maximum.
    competing: bool,
    /// Its class at the last update.
    strict: Option<bool>,
    waits_since: u64,
    /// When it was last seen to want something, since it was last full.
    wanted_at: Option<u64>,
    looked_at: u64,
}

impl Turn {
    /// Queued requests and synchronous calls under way.
    pub fn in_use(&self) -> usize {
        self.account.running() + self.calls.running()
    }
}

/// What a claim knows of a lane.
#[derive(Debug, Clone)]
pub struct Asking<L> {
    pub lane: L,
    pub strict: bool,
    pub weight: u32,
    /// It has requests that could run now.
    pub wants: bool,
    /// The most slots of the lane, if it has a maximum: with that many in use it does not compete.
    pub most: Option<usize>,
    /// A weighted lane that has had demand for this long without being served is overdue; `None`: never. In µs.
    pub max_wait: Option<u64>,
}

/// How the lane stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Queued requests and synchronous calls together.
    pub in_use: usize,
    /// Synchronous calls of these.
    pub calls: usize,
    /// Slots below its most that are kept for synchronous calls.
    pub kept: usize,
    pub virtual_time: i64,
    pub overdue: bool,
    pub served_up_to: i64,
}

/// A lane with its bill paid, before it is set beside the others.
struct Entry {
    virtual_time: i64,
    competes: bool,
    wants: bool,
    /// It has all that it may have.
    full: bool,
    kept: usize,
    /// It changed between strict and weighted since the last update.
    moved: bool,
}

/// How the lanes stand, in the order asked. `total`: the replica's slots; `guess`: the length of a call of which nothing is known.
pub fn look<L: Hash + Eq + Clone>(
    turns: &mut HashMap<L, Turn>,
    asking: &[Asking<L>],
    total: usize,
    now: u64,
    guess: u64,
) -> Vec<Standing> {
    let mut entries = Vec::with_capacity(asking.len());
    for one in asking {
        let part = half_a_part(asking, one, total);
        let turn = turns.entry(one.lane.clone()).or_default();
        let entry = turn.pay(one, part, now, guess);
        entries.push(entry);
    }
    let mut standings = Vec::with_capacity(asking.len());
    for (n, (one, entry)) in asking.iter().zip(&entries).enumerate() {
        // Strict and weighted lanes do not compete with each other, so the virtual time of a lane that has just changed
        // its class means nothing among its new rivals.
        let rivals = (0..asking.len()).filter(|m| *m != n && asking[*m].strict == one.strict && !entries[*m].moved);
        let join_time = slot_time::join_time(rivals.map(|m| (entries[m].virtual_time, entries[m].competes)));
        let Some(turn) = turns.get_mut(&one.lane) else { continue };
        if entry.moved {
            turn.virtual_time = join_time.unwrap_or(turn.virtual_time);
        }
        if entry.wants && !turn.competing {
            turn.virtual_time = turn.virtual_time.max(join_time.unwrap_or(turn.virtual_time));
        }
        turn.competing = entry.wants;
        turn.wait(entry, now);
        standings.push(Standing {
            in_use: turn.in_use(),
            calls: turn.calls.running(),
            kept: entry.kept,
            virtual_time: turn.virtual_time,
            overdue: entry.wants
                && !one.strict
                && one.max_wait.is_some_and(|most| now.saturating_sub(turn.waits_since) >= most),
            served_up_to: turn.served_up_to,
        });
    }
    standings
}

/// Half of a lane's share of the slots by weight, among the lanes with demand, in 1/1024.
fn half_a_part<L>(asking: &[Asking<L>], one: &Asking<L>, total: usize) -> u64 {
    let rivals = asking.iter().filter(|other| other.strict == one.strict && other.wants);
    let weights: u64 = rivals.map(|other| u64::from(other.weight)).sum();
    (total as u64 * 512 * u64::from(one.weight)) / weights.max(u64::from(one.weight)).max(1)
}

impl Turn {
    /// Charges the lane for the slot-time it used. Synchronous calls are charged only while the lane's queued requests
    /// compete with other lanes, and up to half of its share: a lane with many callers still has its queue served.
    fn pay<L>(&mut self, one: &Asking<L>, half_a_part: u64, now: u64, guess: u64) -> Entry {
        let cost = self.account.cost(guess);
        self.virtual_time += per_weight(self.account.bill(now, cost), one.weight);
        let elapsed = now.saturating_sub(std::mem::replace(&mut self.looked_at, now));
        let calls = self.calls.bill(now, elapsed.saturating_mul(half_a_part) / 1_024);
        if self.competing {
            self.virtual_time += per_weight(calls, one.weight);
        }
        let moved = self.strict.replace(one.strict).is_some_and(|before| before != one.strict);
        self.competing &= !moved;
        if one.wants {
            self.calls.see_queue(now);
        }
        let kept = one.most.map_or(0, |most| self.calls.kept(most, now));
        self.claiming = one.most.filter(|_| one.wants).map_or(0, |most| most.saturating_sub(self.in_use() + kept));
        let full = one.most.is_some_and(|most| self.in_use() + kept >= most);
        let wants = one.wants && !full;
        Entry { virtual_time: self.virtual_time, competes: self.competing && wants, wants, full, kept, moved }
    }

    fn wait(&mut self, entry: &Entry, now: u64) {
        let still_waits = self.wanted_at.is_some_and(|at| now.saturating_sub(at) < UNSEEN);
        if entry.wants && !still_waits {
            self.waits_since = now;
        }
        if entry.wants || entry.full {
            self.wanted_at = entry.wants.then_some(now);
        }
    }
}

/// Records the virtual time up to which the lane was served.
pub fn served<L: Hash + Eq>(turns: &mut HashMap<L, Turn>, lane: &L, served_up_to: i64, now: u64) {
    if let Some(turn) = turns.get_mut(lane) {
        turn.served_up_to = served_up_to;
        turn.waits_since = now;
    }
}
