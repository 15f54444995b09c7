//! One clock for the journal and the throttle windows: wall time that never steps back.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Reads the wall clock once and counts on from there by the monotonic clock, so that the times of one journal can be
/// subtracted from each other even when the machine's clock is set while the simulator runs.
pub struct Clock {
    wall_us: u64,
    started: Instant,
}

impl Clock {
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall_us: u64::try_from(wall.as_micros()).unwrap_or(u64::MAX), started: Instant::now() }
    }

    /// Microseconds since 1970 (UTC).
    pub fn now_us(&self) -> u64 {
        self.wall_us + u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}
