//! The allocation of one claim, pure: free slots go to lanes, to teams inside a lane, and to flows inside a team.
//! Strict lanes come first. Then the lowest virtual time is served next, so that the shares even out over time
//! (weighted fair queuing).

#[cfg(test)]
mod tests;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
    ops::Range,
};

use super::slot_time::per_weight;

/// A lane as the decision sees it.
#[derive(Debug, Clone)]
pub struct LaneState {
    /// Served before all weighted lanes.
    pub strict: bool,
    pub weight: u32,
    /// Slots that only this lane may use.
    pub reserve: usize,
    /// The most slots that its queue may fill, if it has a maximum.
    pub most: Option<usize>,
    /// Queued requests and synchronous calls under way.
    pub in_use: usize,
    /// Synchronous calls of these.
    pub calls: usize,
    /// Slot-time it used on this replica, in µs for its weight.
    pub virtual_time: i64,
    /// The lane has waited longer than its aging time: one request of it goes ahead of the strict lanes.
    pub overdue: bool,
    /// The virtual time at which a team of the lane was last served. A team that is blocked by a limit of its own gains
    /// no credit below it.
    pub served_up_to: i64,
}

/// A team in a lane.
#[derive(Debug, Clone)]
pub struct ShareState {
    pub lane: usize,
    pub weight: u32,
    /// Slot-time it used, in µs for its weight.
    pub virtual_time: i64,
    /// What one more request of it will use, in µs.
    pub cost: u64,
    /// Its flows that were read, in the order in which it prefers them.
    pub flows: Range<usize>,
}

/// Whether one more request of a flow may start; what it took on the way is the caller's.
pub trait Gate {
    /// `false`: this flow can have no more now.
    fn admit(&mut self, flow: usize) -> bool;
}

impl<F: FnMut(usize) -> bool> Gate for F {
    fn admit(&mut self, flow: usize) -> bool {
        self(flow)
    }
}

/// Shares of one lane that can take more, the lowest virtual time first; equal ones in the order given.
type Queue = BinaryHeap<Reverse<(i64, usize)>>;

/// Divides `free` slots of `total`. `supply`: how many requests of each flow could run now; granted ones are
/// subtracted. Updates lanes and shares to their new state.
pub fn fill(
    total: usize,
    free: usize,
    lanes: &mut [LaneState],
    shares: &mut [ShareState],
    supply: &mut [usize],
    gate: &mut impl Gate,
) {
    let mut queues: Vec<Queue> = lanes.iter().map(|_| BinaryHeap::new()).collect();
    for (n, share) in shares.iter().enumerate() {
        if supply[share.flows.clone()].iter().any(|supply| *supply > 0) {
            queues[share.lane].push(Reverse((share.virtual_time, n)));
        }
    }
    // Refused for now, by a limit of its own or a provider that is down.
    let mut held: Vec<usize> = Vec::new();
    let mut room = FreeSlots { total, left: free };
    let mut serve = |lane: usize, lanes: &mut [LaneState], queues: &mut [Queue], room: &mut FreeSlots| {
        while let Some(mut top) = queues[lane].peek_mut() {
            let share = &mut shares[top.0.1];
            match next(share, supply, gate, &mut held, top.0.1) {
                Some(flow) => supply[flow] -= 1,
                None => {
                    PeekMut::pop(top);
                    continue;
                }
            }
            lanes[lane].served_up_to = lanes[lane].served_up_to.max(share.virtual_time);
            share.virtual_time += per_weight(share.cost as i64, share.weight).max(1);
            top.0.0 = share.virtual_time;
            let state = &mut lanes[lane];
            state.in_use += 1;
            state.virtual_time += per_weight(share.cost as i64, state.weight).max(1);
            room.left -= 1;
            return true;
        }
        false
    };

    for lane in 0..lanes.len() {
        if lanes[lane].overdue && !lanes[lane].strict && room.has_for(lane, lanes) {
            serve(lane, lanes, &mut queues, &mut room);
        }
    }
    for strict in [true, false] {
        // A lane that found no room or nobody to serve is out: neither comes back within a claim.
        let mut open: Vec<usize> = (0..lanes.len()).filter(|lane| lanes[*lane].strict == strict).collect();
        while let Some(at) = (0..open.len()).min_by_key(|at| lanes[open[*at]].virtual_time) {
            let lane = open[at];
            if !room.has_for(lane, lanes) || !serve(lane, lanes, &mut queues, &mut room) {
                open.remove(at);
            }
        }
    }
    for share in held {
        shares[share].virtual_time = shares[share].virtual_time.max(lanes[shares[share].lane].served_up_to);
    }
}

/// The share's first flow of which a request may start. Flows that are refused are skipped for the rest of the claim.
fn next(
    share: &mut ShareState,
    supply: &[usize],
    gate: &mut impl Gate,
    held: &mut Vec<usize>,
    n: usize,
) -> Option<usize> {
    while let Some(flow) = share.flows.clone().next() {
        if supply[flow] > 0 {
            if gate.admit(flow) {
                return Some(flow);
            }
            held.push(n);
        }
        share.flows.start += 1;
    }
    None
}

/// The slots that are left.
struct FreeSlots {
    total: usize,
    left: usize,
}

impl FreeSlots {
    /// Whether the lane may use one more slot: of its own reserve always, else of those that nobody uses and nobody has reserved.
    fn has_for(&self, lane: usize, lanes: &[LaneState]) -> bool {
        let state = &lanes[lane];
        if self.left == 0 || state.most.is_some_and(|most| state.in_use >= most) {
            return false;
        }
        let used: usize = lanes.iter().map(LaneState::holds).sum();
        // Synchronous calls of other lanes beyond the slots are no reason for a strict lane to wait.
        let beside = if state.strict { 0 } else { self.beside(lanes) };
        state.in_use < state.reserve || used + beside < self.total
    }

    /// Slots taken by synchronous calls beyond their lanes' reserves. Such calls cannot wait, so they start anyway;
    /// half of the unreserved slots stay with the queue.
    fn beside(&self, lanes: &[LaneState]) -> usize {
        let calls: usize = lanes.iter().map(|lane| lane.calls.saturating_sub(lane.reserve)).sum();
        let reserved: usize = lanes.iter().map(|lane| lane.reserve).sum();
        calls.min(self.total.saturating_sub(reserved) / 2)
    }
}

impl LaneState {
    /// Slots that are not there for other lanes: its requests', those of its reserve that its calls fill, and what is left of that.
    fn holds(&self) -> usize {
        (self.in_use - self.calls + self.calls.min(self.reserve)).max(self.reserve)
    }
}
