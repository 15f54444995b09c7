//! How long a guard has blocked a job. Calls in flight reserve their worst case, so a job that wants more than its
//! guard allows is merely slowed down and may never reach a request that cannot fit. A job that keeps wanting more is
//! therefore paused too, however long its calls take.

use chrono::{DateTime, TimeDelta, Utc};
use domain::budget::Length;

/// A job may want more than its guard allows for 1/`SUSTAINED_FRACTION` of the guard's window.
const SUSTAINED_FRACTION: i32 = 10;
/// The minimum, for guards with a window of seconds: on a busy machine short calls may take that long to end and be
/// settled.
const MIN_SUSTAINED: TimeDelta = TimeDelta::seconds(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SustainedShortage {
    since: DateTime<Utc>,
    seen: DateTime<Utc>,
}

impl SustainedShortage {
    /// The job wants more than its guard allows, now as `before`.
    pub fn again(before: Option<Self>, per: Length, now: DateTime<Utc>) -> Self {
        let since = before.filter(|before| before.is_recent(per, now)).map_or(now, |before| before.since);
        Self { since, seen: now }
    }

    /// A blocked job retries many times a second; one that did not for a while starts over.
    pub fn is_recent(self, per: Length, now: DateTime<Utc>) -> bool {
        now - self.seen < sustained_after(per) / 2
    }

    pub fn is_for_long(self, per: Length) -> bool {
        self.seen - self.since >= sustained_after(per)
    }
}

fn sustained_after(per: Length) -> TimeDelta {
    (TimeDelta::seconds(per.seconds()) / SUSTAINED_FRACTION).max(MIN_SUSTAINED)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a job is held back for long that asked in vain at these seconds.
    fn check(per: &str, seconds: &[i64], expected: bool) {
        let per = per.parse().unwrap();
        let at = |seconds: i64| DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds);
        let held = seconds.iter().fold(None, |before, second| Some(SustainedShortage::again(before, per, at(*second))));
        assert_eq!(held.unwrap().is_for_long(per), expected, "{per} {seconds:?}");
    }

    #[test]
    fn a_tenth_of_the_guards_time_is_long() {
        check("1h", &[0], false);
        check("1h", &[0, 120, 240, 359], false);
        check("1h", &[0, 120, 240, 360], true);
        check("1h", &[0, 300, 360], false);
        check("1h", &[0, 100, 400, 500, 600, 759], false);
        check("3s", &[0, 1, 2, 3, 4], false);
        check("3s", &[0, 1, 2, 3, 4, 5], true);
        check("20s", &[0, 1, 4, 5, 6], false);
    }
}
