//! How long an answer takes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::rng::Rng;

/// A distribution of waiting times, in milliseconds; kept to about a tenth of one, never short.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Latency {
    Fixed {
        ms: f64,
    },
    Uniform {
        min_ms: f64,
        max_ms: f64,
    },
    /// A long right tail, as real providers have it: half of all calls are faster than `p50_ms`, one in a hundred is
    /// slower than `p99_ms`.
    Lognormal {
        p50_ms: f64,
        p99_ms: f64,
    },
}

/// No call waits longer, whatever the tail says.
const LONGEST_MS: f64 = 600_000.0;

/// The standard normal distribution's 99th percentile.
const NORMAL_P99: f64 = 2.326_347_874;

impl Default for Latency {
    fn default() -> Self {
        Latency::Fixed { ms: 0.0 }
    }
}

impl Latency {
    pub(crate) fn is_sound(&self) -> bool {
        let (low, high) = match *self {
            Latency::Fixed { ms } => (ms, ms),
            Latency::Uniform { min_ms, max_ms } => (min_ms, max_ms),
            Latency::Lognormal { p50_ms, p99_ms } => (p50_ms, p99_ms),
        };
        let has_ratio = !matches!(self, Latency::Lognormal { .. }) || low > 0.0;
        has_ratio && 0.0 <= low && low <= high && high <= LONGEST_MS
    }

    pub(crate) fn sample(&self, rng: &mut Rng) -> Duration {
        let ms = match *self {
            Latency::Fixed { ms } => ms,
            Latency::Uniform { min_ms, max_ms } => min_ms + (max_ms - min_ms) * rng.fraction(),
            Latency::Lognormal { p50_ms, p99_ms } => {
                let sigma = (p99_ms / p50_ms).ln() / NORMAL_P99;
                p50_ms * (sigma * rng.normal()).exp()
            }
        };
        Duration::from_secs_f64(ms.min(LONGEST_MS) / 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(latency: Latency) -> Vec<f64> {
        let mut all: Vec<f64> =
            (0..10_000).map(|call| latency.sample(&mut Rng::new(5, call)).as_secs_f64() * 1_000.0).collect();
        all.sort_unstable_by(f64::total_cmp);
        all
    }

    #[test]
    fn lognormal_meets_both_percentiles() {
        let all = sorted(Latency::Lognormal { p50_ms: 100.0, p99_ms: 900.0 });
        assert!((95.0..105.0).contains(&all[5_000]), "p50 {}", all[5_000]);
        assert!((800.0..1_000.0).contains(&all[9_900]), "p99 {}", all[9_900]);
    }

    #[test]
    fn uniform_stays_between_its_ends() {
        let all = sorted(Latency::Uniform { min_ms: 10.0, max_ms: 30.0 });
        assert!(all[0] >= 10.0 && all[9_999] < 30.0);
        assert!((19.0..21.0).contains(&all[5_000]), "median {}", all[5_000]);
    }

    #[test]
    fn equal_percentiles_are_a_fixed_time() {
        let all = sorted(Latency::Lognormal { p50_ms: 20.0, p99_ms: 20.0 });
        assert_eq!((all[0], all[9_999]), (20.0, 20.0));
        assert!(!Latency::Lognormal { p50_ms: 0.0, p99_ms: 1.0 }.is_sound());
        assert!(!Latency::Fixed { ms: f64::NAN }.is_sound());
    }
}
