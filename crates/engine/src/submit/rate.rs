//! The least rate of an upload. An upload occupies one of few permits, so a client that sends a byte now and then could
//! keep one indefinitely. Only time spent waiting for the client counts: an upload that is delayed by the database is
//! not slow.

use std::time::{Duration, Instant};

use crate::settings::UploadRate;

/// What the rate is measured over, and the time that every upload has before it counts.
pub const RATE_WINDOW: Duration = Duration::from_secs(30);
/// Waiting for the client for this long says enough of its rate when others wait for its place.
const MIN_OBSERVATION: Duration = Duration::from_secs(2);

/// Why an upload lost its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Slow {
    #[error(
        "the upload came in at {rate} bytes a second, and at least {least} are asked for; send the whole file at once, not as \
         it is being made"
    )]
    Rate { rate: u64, least: u64 },
    #[error("the upload took longer than {} s, the most that one may take; submit it in smaller jobs", .0.as_secs())]
    Deadline(Duration),
    /// Passes by itself; submit again.
    #[error(
        "the upload came in at {rate} bytes a second while others waited for its place, which it lost; submit it again, faster or later"
    )]
    Displaced { rate: u64 },
}

/// The bytes of one upload since its window began, and the time spent waiting for them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gauge {
    bytes: u64,
    waited: Duration,
    waiting_since: Option<Instant>,
}

impl Gauge {
    /// The client has nothing to give now.
    pub fn waits(&mut self, now: Instant) {
        self.waiting_since.get_or_insert(now);
    }

    pub fn received(&mut self, bytes: u64, now: Instant) {
        if let Some(since) = self.waiting_since.take() {
            self.waited += now.saturating_duration_since(since);
        }
        self.bytes += bytes;
    }

    fn waited(&self, now: Instant) -> Duration {
        self.waited + self.waiting_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// The rate of a client that is being waited for; `None` while nobody waits for it, or for too short a time to tell.
    pub fn rate_of_waiting(&self, now: Instant) -> Option<u64> {
        self.waiting_since.and_then(|_| self.rate(now))
    }

    /// Bytes a second; `None` while it was waited for too shortly to tell.
    pub fn rate(&self, now: Instant) -> Option<u64> {
        let waited = self.waited(now);
        (waited >= MIN_OBSERVATION).then(|| rate(self.bytes, waited))
    }

    /// Begins the next window when this one is over; an error when too little came in it.
    pub fn check(&mut self, required: UploadRate, now: Instant) -> Result<(), Slow> {
        let waited = self.waited(now);
        if waited < RATE_WINDOW {
            return Ok(());
        }
        let rate = rate(self.bytes, waited);
        if rate < required.bytes_per_s {
            return Err(Slow::Rate { rate, least: required.bytes_per_s });
        }
        *self = Self { waiting_since: self.waiting_since.map(|_| now), ..Self::default() };
        Ok(())
    }

    /// How long from now the window is over if nothing comes.
    pub fn left(&self, now: Instant) -> Duration {
        RATE_WINDOW.saturating_sub(self.waited(now))
    }
}

fn rate(bytes: u64, waited: Duration) -> u64 {
    let millis = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX).max(1);
    bytes.saturating_mul(1000) / millis
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUIRED: UploadRate = UploadRate { bytes_per_s: 1000, deadline: Duration::from_secs(3600) };

    /// Feeds `bytes` after each wait of `wait` seconds and gives the time at which it was found too slow.
    fn slow_after(bytes: u64, wait: u64, seconds: u64) -> Option<u64> {
        let start = Instant::now();
        let mut gauge = Gauge::default();
        for at in (0..seconds).step_by(wait as usize) {
            gauge.waits(start + Duration::from_secs(at));
            let now = start + Duration::from_secs(at + wait);
            gauge.received(bytes, now);
            if gauge.check(REQUIRED, now).is_err() {
                return Some(at + wait);
            }
        }
        None
    }

    #[test]
    fn a_dripping_upload_is_found_after_the_grace_time() {
        assert_eq!(slow_after(1, 1, 3600), Some(30));
        assert_eq!(slow_after(999, 1, 3600), Some(30));
        assert_eq!(slow_after(1001, 1, 3600), None);
        assert_eq!(slow_after(11_000, 10, 3600), None, "bursts are fine");
    }

    #[test]
    fn an_upload_that_slows_down_later_is_found_too() {
        let start = Instant::now();
        let second = |n| start + Duration::from_secs(n);
        let mut gauge = Gauge::default();
        for at in 0..60 {
            gauge.waits(second(at));
            gauge.received(100_000, second(at + 1));
            gauge.check(REQUIRED, second(at + 1)).unwrap();
        }
        gauge.waits(second(60));
        assert_eq!(gauge.left(second(60)), RATE_WINDOW, "its fast beginning is forgotten");
        assert_eq!(gauge.check(REQUIRED, second(90)), Err(Slow::Rate { rate: 0, least: 1000 }));
    }

    #[test]
    fn time_in_which_nobody_read_is_not_the_clients() {
        let start = Instant::now();
        let mut gauge = Gauge::default();
        gauge.received(1, start);
        // An hour of writing to the database.
        let now = start + Duration::from_secs(3600);
        assert_eq!(gauge.check(REQUIRED, now), Ok(()));
        assert_eq!(gauge.rate(now), None);
        gauge.waits(now);
        assert_eq!(gauge.rate(now + Duration::from_secs(4)), Some(0));
    }
}
