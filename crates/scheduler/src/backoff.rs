//! How long a flow that was refused is left alone.

use std::time::Duration;

/// The shortest that one which a limit refused is left alone.
const MIN_BACKOFF: Duration = Duration::from_millis(4);
/// How long a request waits for a deployment whose limit refused: a grant comes within milliseconds, a slot when a call ends.
pub const LIMIT_BACKOFF: Duration = Duration::from_millis(25);
/// The longest, unless a provider says more.
pub const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// A slot is free again when a call ends, so short calls are looked after more often: at a limit of three calls of 20 ms, a pause
/// of 25 ms would leave most of it unused. `cost`: what a call of the team takes, in µs.
pub fn at_limit(cost: u64) -> Duration {
    Duration::from_micros(cost / 4).clamp(MIN_BACKOFF, LIMIT_BACKOFF)
}

/// The longer it has been refused, the less it loses by another moment: a thousand teams that wait at their caps for long calls
/// to end must not cost each claim a thousand looks.
pub fn while_blocked(asked: Duration, held: Duration) -> Duration {
    asked.max((held / 8).min(MAX_BACKOFF))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_calls_are_looked_after_more_often() {
        let pauses = [0, 20_000, 80_000, 10_000_000].map(at_limit);
        assert_eq!(pauses, [4, 5, 20, 25].map(Duration::from_millis));
    }

    #[test]
    fn who_is_held_for_long_is_asked_more_rarely() {
        let asked = Duration::from_millis(25);
        let held = |seconds| while_blocked(asked, Duration::from_secs(seconds));
        assert_eq!((held(0), held(2), held(100)), (asked, Duration::from_millis(250), MAX_BACKOFF));
        let long = Duration::from_secs(30);
        assert_eq!(while_blocked(long, Duration::ZERO), long, "a provider that says so");
    }
}
