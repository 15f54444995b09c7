//! A lane's synchronous calls on one replica. They count together with its queued requests. At a lane's maximum share neither
//! kind keeps the other out: as long as both want more, each may have half.

use std::collections::VecDeque;

use super::slot_time::Account;

/// How long a place is kept for a call that was refused or still waits. Its caller is told to retry after one second.
/// In µs.
const PLACE_RETENTION: u64 = 2_000_000;
/// How long after they were last seen waiting requests of the lane count as still waiting. In µs.
const QUEUE_SEEN_WINDOW: u64 = 1_000_000;

#[derive(Debug, Clone, Default)]
pub struct Calls {
    account: Account,
    /// When the places that are kept for calls are the queue's again, the soonest first.
    kept: VecDeque<u64>,
    /// When requests of the lane were last seen to wait.
    queue_seen: Option<u64>,
}

impl Calls {
    pub fn running(&self) -> usize {
        self.account.running()
    }

    /// Starts one, or keeps a place for it. `queued`: requests of jobs under way; `most`: what the lane has at most, if anything.
    pub fn start(&mut self, queued: usize, most: Option<usize>, now: u64) -> bool {
        if most.is_some_and(|most| !self.has_room(queued, most, now)) {
            return false;
        }
        self.account.start(now);
        true
    }

    fn has_room(&self, queued: usize, most: usize, now: u64) -> bool {
        let queue_waits = self.queue_seen.is_some_and(|at| now.saturating_sub(at) < QUEUE_SEEN_WINDOW);
        queued + self.running() < most && (!queue_waits || self.running() < half(most))
    }

    pub fn end(&mut self, started: u64, now: u64) {
        self.account.end(started, now);
    }

    /// A call came too many.
    pub fn refused(&mut self, most: usize, now: u64) {
        if self.kept.len() < most {
            self.kept.push_back(now + PLACE_RETENTION);
        }
    }

    /// A call that was refused before runs now, so nothing is to be kept for it.
    pub fn came_again(&mut self) {
        self.kept.pop_front();
    }

    /// Requests of the lane wait.
    pub fn see_queue(&mut self, now: u64) {
        self.queue_seen = Some(now);
    }

    /// Whether calls alone keep the queue of a lane with such a maximum share from more.
    pub fn hold_up_queue(&self, most: Option<usize>, now: u64) -> bool {
        most.is_some() && self.queue_seen.is_some_and(|at| now.saturating_sub(at) < QUEUE_SEEN_WINDOW)
    }

    /// Places below the lane's most that are not the queue's.
    pub fn kept(&mut self, most: usize, now: u64) -> usize {
        while self.kept.front().is_some_and(|until| *until <= now) {
            self.kept.pop_front();
        }
        self.kept.len().min(half(most).saturating_sub(self.running()))
    }

    /// Slot-time used since the last bill, but no more than `most`.
    pub fn bill(&mut self, now: u64, most: u64) -> i64 {
        self.account.bill(now, 0).min(i64::try_from(most).unwrap_or(i64::MAX))
    }
}

fn half(most: usize) -> usize {
    most.div_ceil(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(n: usize) -> Calls {
        let mut calls = Calls::default();
        (0..n).for_each(|_| assert!(calls.start(0, None, 0)));
        calls
    }

    #[test]
    fn calls_and_requests_count_together() {
        let mut calls = running(2);
        assert!(!calls.start(2, Some(4), 0));
        assert!(calls.start(1, Some(4), 0));
        assert_eq!(calls.running(), 3);
    }

    #[test]
    fn neither_keeps_the_other_out() {
        let mut calls = running(2);
        assert!(calls.clone().start(0, Some(4), 10), "nobody else wants them");
        calls.see_queue(10);
        assert!(!calls.start(0, Some(4), 20), "half, while requests wait");
        assert!(calls.clone().start(0, Some(4), 10 + QUEUE_SEEN_WINDOW));

        let mut calls = running(1);
        (0..9).for_each(|_| calls.refused(4, 0));
        assert_eq!(calls.kept(4, 0), 1, "half, with the one that runs");
        calls.end(0, 5);
        assert_eq!(calls.kept(4, 5), 2);
        (0..3).for_each(|_| calls.came_again());
        assert_eq!(calls.kept(4, 5), 1);
        assert_eq!(calls.kept(4, PLACE_RETENTION), 0, "nobody came again");
    }

    #[test]
    fn more_than_the_most_is_forgiven() {
        let mut calls = running(3);
        assert_eq!(calls.bill(1_000, 2_000), 2_000);
        assert_eq!(calls.bill(1_100, 2_000), 300);
    }
}
