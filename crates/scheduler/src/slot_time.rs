//! Slot-time, the measure of fairness: what a team in a lane, or a lane, uses of a replica's slots. A call is charged when it
//! starts, at what such calls take on average, and set right while it runs and when it ends. So the next decision knows what
//! the last one gave, and a team whose calls take ten times as long starts a tenth as many.

use std::time::Duration;

/// Taken for the length of a call before any has ended.
pub const FIRST_GUESS: u64 = 100_000;

/// The batch window: how long free slots are collected before a claim. It is short compared with a call, and keeps long
/// calls from causing many small claims, which cost as many round trips as large ones.
pub fn batch_window(all: &Account) -> Duration {
    Duration::from_micros(all.mean / 64).clamp(Duration::from_millis(3), Duration::from_millis(50))
}

/// One party's account on one replica. All times in µs, on one clock of the caller's.
#[derive(Debug, Clone, Default)]
pub struct Account {
    running: u64,
    /// The starts of what runs, added up.
    starts: u64,
    /// Slot-time of what has ended.
    ended: u64,
    /// What a call takes, the last ones counting most; 0: none has ended.
    mean: u64,
    /// Calls that ended since the last lesson.
    fresh: u64,
    billed: i64,
}

impl Account {
    pub fn start(&mut self, now: u64) {
        self.running += 1;
        self.starts += now;
    }

    /// Takes note of slot-time that was put on the bill when a call was granted.
    pub fn billed(&mut self, slot_time: u64) {
        self.billed += slot_time as i64;
    }

    pub fn end(&mut self, started: u64, now: u64) {
        let took = now.saturating_sub(started);
        self.running -= 1;
        self.starts -= started;
        self.ended += took;
        self.mean = if self.mean == 0 { took.max(1) } else { (self.mean * 7 + took).div_ceil(8) };
        self.fresh += 1;
    }

    pub fn running(&self) -> usize {
        self.running as usize
    }

    /// What one more call will use.
    pub fn cost(&self, guess: u64) -> u64 {
        if self.mean == 0 { guess.max(1) } else { self.mean }
    }

    /// What one more call will use by what all replicas have learned, this one's last calls added; 0: nothing is known.
    pub fn learn(&mut self, known: u64) -> u64 {
        match (known, std::mem::take(&mut self.fresh).min(8)) {
            (0, _) => self.mean,
            (known, fresh) => (known * (16 - fresh) + self.mean * fresh) / 16,
        }
    }

    /// What was used since the last bill, by a call's `cost`. Less than nothing when calls ended sooner than was thought.
    pub fn bill(&mut self, now: u64, cost: u64) -> i64 {
        let elapsed = (self.running * now).saturating_sub(self.starts);
        let used = (self.ended + elapsed.max(self.running * cost)) as i64;
        let due = used - self.billed;
        self.billed = used;
        due
    }
}

/// The join time: the lowest virtual time of a party that comes back after being idle. Idle time earns no credit.
/// `others`: all others with their virtual times, and whether they have been competing.
pub fn join_time(others: impl Iterator<Item = (i64, bool)> + Clone) -> Option<i64> {
    let competing = others.clone().filter(|(_, competing)| *competing).map(|(virtual_time, _)| virtual_time).min();
    competing.or_else(|| others.map(|(virtual_time, _)| virtual_time).max())
}

/// Virtual time is slot-time divided by weight.
pub fn per_weight(slot_time: i64, weight: u32) -> i64 {
    slot_time / i64::from(weight.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_call_is_charged_at_its_start_and_set_right_at_its_end() {
        let mut account = Account::default();
        account.start(0);
        account.billed(50);
        assert_eq!(account.bill(40, 50), 0, "within what was expected");
        assert_eq!(account.bill(80, 50), 30, "it runs longer");
        account.end(0, 100);
        assert_eq!(account.bill(100, 50), 20);
        account.start(200);
        assert_eq!(account.bill(200, account.cost(50)), 100, "nobody charged it, so it is by what the last one took");
        account.end(200, 210);
        assert_eq!(account.bill(210, 50), -90);
    }

    #[test]
    fn replicas_learn_from_each_other() {
        let (mut one, mut other) = (Account::default(), Account::default());
        assert_eq!((one.learn(0), one.learn(500)), (0, 500), "a new one knows what the others do");
        one.start(0);
        one.end(0, 160);
        assert_eq!(one.learn(0), 160);
        other.start(0);
        other.end(0, 320);
        assert_eq!(other.learn(160), 170);
        assert_eq!(other.learn(170), 170, "nothing has ended since");
    }

    #[test]
    fn a_rest_earns_no_credit() {
        assert_eq!(join_time([(700, true), (900, true), (20, false)].into_iter()), Some(700));
        assert_eq!(join_time([(700, false), (900, false)].into_iter()), Some(900), "nobody competes: behind nobody");
        assert_eq!(join_time(std::iter::empty()), None);
    }

    proptest! {
        /// Whenever bills are made, in the end exactly what was used has been billed.
        #[test]
        fn bills_add_up(calls in proptest::collection::vec((0u64..1_000, 1u64..500), 1..20), looks in proptest::collection::vec(0u64..2_000, 0..20)) {
            let mut events: Vec<(u64, Option<(u64, bool)>)> = looks.into_iter().map(|at| (at, None)).collect();
            for (start, took) in &calls {
                events.push((*start, Some((*start, true))));
                events.push((start + took, Some((*start, false))));
            }
            // A start before an end at the same moment.
            events.sort_by_key(|(at, what)| (*at, matches!(what, Some((_, false)))));
            let (mut account, mut billed) = (Account::default(), 0);
            for (at, what) in events {
                match what {
                    Some((_, true)) => account.start(at),
                    Some((started, false)) => account.end(started, at),
                    None => billed += account.bill(at, 100),
                }
            }
            billed += account.bill(5_000, 100);
            prop_assert_eq!(billed, calls.iter().map(|(_, took)| *took as i64).sum::<i64>());
        }
    }
}
