//! What will happen, in order of time; at the same moment, in the order in which it was said.

use std::{cmp::Reverse, collections::BinaryHeap};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// The next job of a lane comes in.
    Arrival { lane: u8 },
    /// Requests of a team end, all that one claim granted it.
    End { replica: u16, team: u32, calls: u16, started: u64 },
    /// A replica looks whether it can claim.
    Look { replica: u16 },
    /// A replica's claim is committed.
    Commit { replica: u16 },
    /// A team that was held is looked at again.
    Wake { team: u32 },
    /// A provider goes down or comes back.
    Provider { route: u8, up: bool },
    /// A window of the report is over.
    Window,
}

#[derive(Default)]
pub struct Events {
    heap: BinaryHeap<Reverse<(u64, u64, Event)>>,
    said: u64,
}

impl Events {
    pub fn at(&mut self, time: u64, event: Event) {
        self.said += 1;
        self.heap.push(Reverse((time, self.said, event)));
    }
    pub fn next(&mut self) -> Option<(u64, Event)> {
        self.heap.pop().map(|Reverse((time, _, event))| (time, event))
    }
}
