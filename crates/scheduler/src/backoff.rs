//! The back-off of a blocked flow.

use std::time::Duration;

/// The shortest back-off at a limit.
const MIN_BACKOFF: Duration = Duration::from_millis(4);
/// How long a request waits for a deployment whose limit refused: a grant comes within milliseconds, a slot when a call ends.
pub const LIMIT_BACKOFF: Duration = Duration::from_millis(25);
/// The longest back-off, unless a provider asks for more.
pub const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// The back-off at a limit. A slot is freed when a call ends, so a team with short calls is retried more often: at a
/// limit of three calls of 20 ms, a pause of 25 ms would leave most of it unused. `cost`: what a call of the team
/// takes, in µs.
pub fn at_limit(cost: u64) -> Duration {
    Duration::from_micros(cost / 4).clamp(MIN_BACKOFF, LIMIT_BACKOFF)
}

/// The back-off of a flow that has been blocked for `held`. It grows with the wait: a thousand teams at their caps must
/// not cost every claim a thousand checks.
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
