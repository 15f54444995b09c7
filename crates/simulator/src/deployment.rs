//! A deployment while it runs: its configuration, and the little it remembers between calls.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use serde_json::{Map, Value};

use crate::config::{Config, ConfigError, Throttle};
use crate::rng::Rng;
use crate::sync::{locked, reading, writing};
use crate::vectors::{Vectors, vectors};

pub struct Deployment {
    /// Its number in the journal.
    pub number: u16,
    plan: RwLock<Arc<Plan>>,
    calls: AtomicU64,
    minute: Mutex<Minute>,
}

/// A configuration made ready: what a call needs is computed when it is set, not when it is used.
pub struct Plan {
    pub config: Config,
    /// What `throttle` counts from.
    pub throttle_since_us: u64,
    /// Text for answers, at least as long as the longest of them.
    pub filler: Box<str>,
    /// Vectors of the configured width.
    pub vectors: Arc<Vectors>,
}

#[derive(Default)]
struct Minute {
    began_us: u64,
    calls: u64,
}

const MINUTE_US: u64 = 60_000_000;

const SENTENCE: &str = "The simulator answers as it was told to and bills every token of it. ";

impl Plan {
    pub fn new(config: Config, throttle_since_us: u64) -> Self {
        let tokens = usize::try_from(config.answer_tokens).unwrap_or(usize::MAX);
        let length = config.answer_bytes.unwrap_or(0).max(4 * tokens);
        let filler = SENTENCE.repeat(length.div_ceil(SENTENCE.len()));
        Self { throttle_since_us, filler: filler.into(), vectors: vectors(config.embedding_dimensions), config }
    }
}

impl Deployment {
    pub fn new(number: u16, config: Config, now_us: u64) -> Self {
        Self {
            number,
            plan: RwLock::new(Arc::new(Plan::new(config, now_us))),
            calls: AtomicU64::new(0),
            minute: Mutex::default(),
        }
    }

    pub fn plan(&self) -> Arc<Plan> {
        reading(&self.plan).clone()
    }

    /// Replaces the configuration; `throttle` counts from now on.
    pub fn set(&self, config: Config, now_us: u64) {
        *writing(&self.plan) = Arc::new(Plan::new(config, now_us));
    }

    /// Replaces some fields. `throttle` goes on counting unless it is among them.
    pub fn patch(&self, fields: Map<String, Value>, now_us: u64) -> Result<(), ConfigError> {
        let mut plan = writing(&self.plan);
        let since = match fields.contains_key("throttle") {
            true => now_us,
            false => plan.throttle_since_us,
        };
        *plan = Arc::new(Plan::new(plan.config.patched(fields)?, since));
        Ok(())
    }

    /// Adds a throttle window whose `from_ms` counts from now, and drops those that are over.
    pub fn add_throttle(&self, mut added: Throttle, now_us: u64) {
        let mut plan = writing(&self.plan);
        let since = plan.throttle_since_us;
        let now_ms = now_us.saturating_sub(since) / 1_000;
        let mut config = plan.config.clone();
        config.throttle.retain(|t| t.from_ms.saturating_add(t.for_ms) > now_ms);
        added.from_ms = added.from_ms.saturating_add(now_ms);
        config.throttle.push(added);
        *plan = Arc::new(Plan::new(config, since));
    }

    /// Forgets calls: chance and the minute start anew.
    pub fn forget(&self) {
        self.calls.store(0, Ordering::Relaxed);
        *locked(&self.minute) = Minute::default();
    }

    /// The dice of the next call.
    pub fn rng(&self, plan: &Plan) -> Rng {
        Rng::new(plan.config.seed, self.calls.fetch_add(1, Ordering::Relaxed))
    }

    /// Takes one of the minute's `rpm` calls, or says how many seconds remain of the minute.
    pub fn take_call(&self, rpm: u64, now_us: u64) -> Result<(), u64> {
        let mut minute = locked(&self.minute);
        if now_us >= minute.began_us + MINUTE_US {
            *minute = Minute { began_us: now_us, calls: 0 };
        }
        if minute.calls < rpm {
            minute.calls += 1;
            return Ok(());
        }
        Err((minute.began_us + MINUTE_US - now_us).div_ceil(1_000_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Deployment {
        Deployment::new(0, Config::default(), 1_000)
    }

    #[test]
    fn a_minute_admits_rpm_calls_and_starts_with_its_first() {
        let (d, start) = (deployment(), 500 * MINUTE_US + 7);
        assert_eq!(d.take_call(2, start), Ok(()));
        assert_eq!(d.take_call(2, start + 1), Ok(()));
        assert_eq!(d.take_call(2, start + 1_500_000), Err(59));
        assert_eq!(d.take_call(2, start + MINUTE_US - 1), Err(1));
        assert_eq!(d.take_call(2, start + MINUTE_US), Ok(()));
    }

    #[test]
    fn an_added_window_starts_now_and_old_ones_go() {
        let d = deployment();
        let window = |for_ms| Throttle { status: 529, from_ms: 0, for_ms, retry_after_s: None, share: 1.0 };
        d.add_throttle(window(10), 1_000);
        d.add_throttle(window(30), 6_000);
        d.add_throttle(window(20), 21_000);
        let kept: Vec<(u64, u64)> = d.plan().config.throttle.iter().map(|t| (t.from_ms, t.for_ms)).collect();
        assert_eq!(kept, [(5, 30), (20, 20)]);
    }
}
