//! Which of its thresholds a budget has reached, and whether it will last: arithmetic.

use chrono::{DateTime, TimeDelta, Utc};
use domain::Budget;

/// What was spent of a window says little of the rest before so much of it is over.
const EARLIEST: i32 = 10;
/// A busy hour of a month says nothing of the month.
const PROJECTION_HORIZON: TimeDelta = TimeDelta::days(1);

/// The percents that are reached, the highest first.
pub fn reached(budget: &Budget, gone: i128) -> Vec<u32> {
    let is_reached = |percent: u32| {
        // Of a limit that holds, the last call that fits leaves a little: less than a percent is nothing.
        let enough = if percent == 100 && !budget.lets_through() { 99 } else { percent };
        gone > 0 && gone * 100 >= budget.cap() * i128::from(enough)
    };
    let mut reached: Vec<u32> = budget.thresholds.iter().copied().filter(|percent| is_reached(*percent)).collect();
    reached.sort_unstable_by(|a, b| b.cmp(a));
    reached.dedup();
    reached
}

/// Whole percents of the limit.
pub fn percent(budget: &Budget, gone: i128) -> i128 {
    gone.max(0) * 100 / budget.cap().max(1)
}

/// Whether an exhaustion that is projected is to be believed: of a window that began and ends, when a tenth of it is over. By the last
/// hour alone that is so for the next day; what is further off, the whole window so far must say too.
pub fn is_due(
    since: DateTime<Utc>,
    end: DateTime<Utc>,
    now: DateTime<Utc>,
    exhausted_at: DateTime<Utc>,
    on_average: Option<DateTime<Utc>>,
) -> bool {
    let (length, elapsed): (TimeDelta, TimeDelta) = (end - since, now - since);
    let is_likely = exhausted_at - now <= PROJECTION_HORIZON || on_average.is_some_and(|at| at < end);
    exhausted_at > now && exhausted_at < end && elapsed * EARLIEST >= length && is_likely
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn budget(cap: i64, soft: bool, thresholds: &[u32]) -> Budget {
        let budget = json!({"limit_tokens": cap, "window": "day", "soft": soft, "thresholds": thresholds});
        serde_json::from_value(budget).unwrap()
    }

    #[test]
    fn thresholds_are_reached_to_the_unit() {
        let (hard, soft) = (budget(1_000, false, &[50, 80, 100]), budget(1_000, true, &[50, 80, 100, 150]));
        for (gone, of_hard, of_soft) in [
            (0, vec![], vec![]),
            (499, vec![], vec![]),
            (500, vec![50], vec![50]),
            (989, vec![80, 50], vec![80, 50]),
            (990, vec![100, 80, 50], vec![80, 50]),
            (1_000, vec![100, 80, 50], vec![100, 80, 50]),
            (1_500, vec![100, 80, 50], vec![150, 100, 80, 50]),
        ] {
            assert_eq!((reached(&hard, gone), reached(&soft, gone)), (of_hard, of_soft), "{gone}");
        }
        assert_eq!(percent(&hard, 999), 99);
    }

    #[test]
    fn a_projection_is_believed_when_a_tenth_is_over_and_not_after_the_end() {
        let at = |hour: u32| format!("2026-11-23T{hour:02}:00:00Z").parse::<DateTime<Utc>>().unwrap();
        let due = |now: u32, exhausted: u32| is_due(at(0), at(20), at(now), at(exhausted), None);
        assert!(!due(1, 10), "too early");
        assert!(due(2, 10) && due(9, 19));
        assert!(!due(9, 9), "that is no projection");
        assert!(!due(9, 20), "it lasts");
    }

    #[test]
    fn an_hour_says_little_of_the_rest_of_a_month() {
        let at = |day: u32| format!("2026-11-{day:02}T00:00:00Z").parse::<DateTime<Utc>>().unwrap();
        let due = |exhausted: u32, on_average| is_due(at(1), at(30), at(10), at(exhausted), on_average);
        assert!(due(11, None), "it is gone tomorrow");
        assert!(!due(12, None) && !due(12, Some(at(30))));
        assert!(due(12, Some(at(29))), "and it was so all the time");
    }

    proptest! {
        /// What is reached stays reached when more is spent, and nothing is reached that nobody asked for.
        #[test]
        fn more_spent_reaches_more(
            cap in 1i64..1_000_000, gone in 0i128..2_000_000, more in 0i128..1_000_000, soft in any::<bool>(),
            thresholds in proptest::collection::vec(1u32..=200, 0..6),
        ) {
            let budget = budget(cap, soft, &thresholds);
            let (before, after) = (reached(&budget, gone), reached(&budget, gone + more));
            prop_assert!(before.iter().all(|percent| after.contains(percent)), "{before:?} {after:?}");
            prop_assert!(after.windows(2).all(|two| two[0] > two[1]), "{after:?}");
            prop_assert!(after.iter().all(|percent| thresholds.contains(percent)));
            let over = |percent: &u32| (gone + more) * 100 >= i128::from(cap) * i128::from(percent.saturating_sub(1));
            prop_assert!(after.iter().all(over), "{after:?}");
        }
    }
}
