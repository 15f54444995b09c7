//! Database time without a round trip: the offset is measured at each heartbeat, the local monotonic clock does the rest,
//! so that a wrong or a jumping wall clock on one replica changes nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Instant,
};

use chrono::{DateTime, Utc};

#[derive(Debug, Clone)]
pub struct Clock {
    started: Instant,
    /// Database time, in µs since 1970, at `started`.
    origin_us: Arc<AtomicI64>,
}

impl Clock {
    /// A clock that was just told the database's time.
    pub fn new(database_now: DateTime<Utc>) -> Self {
        let clock = Self { started: Instant::now(), origin_us: Arc::new(AtomicI64::new(0)) };
        clock.set(database_now, Instant::now());
        clock
    }

    /// Takes a new reading: the database said `now` at about the local moment `at`.
    pub fn set(&self, now: DateTime<Utc>, at: Instant) {
        let elapsed = at.saturating_duration_since(self.started).as_micros() as i64;
        self.origin_us.store(now.timestamp_micros() - elapsed, Ordering::Relaxed);
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.at(Instant::now())
    }

    /// The database's time at a local moment.
    pub fn at(&self, moment: Instant) -> DateTime<Utc> {
        let elapsed = moment.saturating_duration_since(self.started).as_micros() as i64;
        DateTime::from_timestamp_micros(self.origin_us.load(Ordering::Relaxed) + elapsed)
            .unwrap_or(DateTime::UNIX_EPOCH)
    }
}
