//! How fast a job's requests end, and how long the rest of them takes.

use serde::{Deserialize, Serialize};

/// Counts of ended requests of which each share fades by a factor of e in so many seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Faded {
    /// In [`LATELY_S`].
    pub lately: f64,
    /// In [`LONGER_S`].
    pub longer: f64,
    /// Seconds since the job began.
    pub age_s: f64,
}

pub const LATELY_S: f64 = 10.0;
pub const LONGER_S: f64 = 60.0;
/// A job that began just now has no rate yet.
const YOUNGEST_S: f64 = 0.2;

/// Rate and remaining time, as every rendering of a job has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgressRate {
    /// Requests that ended a second, over the last ten seconds or so; to a tenth.
    pub rate_per_s: f64,
    /// Seconds until the rest has ended at that rate; `None`: it cannot be told.
    pub eta_s: Option<i64>,
    /// At the higher of that rate and the one of the last minute, and at the lower.
    pub eta_low_s: Option<i64>,
    pub eta_high_s: Option<i64>,
}

impl ProgressRate {
    pub fn new(faded: Faded, pending: i64) -> Self {
        let lately = rate(faded.lately, faded.age_s, LATELY_S);
        let longer = rate(faded.longer, faded.age_s, LONGER_S);
        // What shows as 0.0 is none.
        let eta = |rate: f64| (pending > 0 && rate >= 0.05).then(|| (pending as f64 / rate).ceil() as i64);
        Self {
            rate_per_s: (lately * 10.0).round() / 10.0,
            eta_s: eta(lately),
            eta_low_s: eta(lately.max(longer)),
            eta_high_s: eta(lately.min(longer)),
        }
    }
}

/// A figure that has faded only since the job began holds less than it will.
fn rate(figure: f64, age_s: f64, fades_s: f64) -> f64 {
    figure / (fades_s * (1.0 - (-age_s.max(YOUNGEST_S) / fades_s).exp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a steady `per_s` leaves after `age_s`, and then a pause of `idle_s`.
    fn steady(per_s: f64, age_s: f64, idle_s: f64) -> Faded {
        let left = |fades_s: f64| per_s * fades_s * (1.0 - (-age_s / fades_s).exp()) * (-idle_s / fades_s).exp();
        Faded { lately: left(LATELY_S), longer: left(LONGER_S), age_s: age_s + idle_s }
    }

    #[test]
    fn a_steady_rate_is_told_from_the_first_second_on() {
        for age_s in [1.0, 10.0, 300.0] {
            let pace = ProgressRate::new(steady(50.0, age_s, 0.0), 1_001);
            assert_eq!(pace.rate_per_s, 50.0, "after {age_s} s");
            let eta = [pace.eta_s, pace.eta_low_s, pace.eta_high_s];
            assert!(eta.iter().all(|eta| matches!(eta, Some(20..=22))), "after {age_s} s: {eta:?}");
        }
    }

    #[test]
    fn a_change_widens_the_range_and_a_standstill_ends_it() {
        let slower = ProgressRate::new(steady(50.0, 300.0, 10.0), 1_000);
        assert!((17.0..20.0).contains(&slower.rate_per_s), "{slower:?}");
        assert!(slower.eta_low_s < slower.eta_s && slower.eta_s <= slower.eta_high_s, "{slower:?}");
        assert_eq!(ProgressRate::new(steady(50.0, 300.0, 400.0), 1_000).rate_per_s, 0.0);
        assert_eq!(ProgressRate::new(steady(50.0, 300.0, 400.0), 1_000).eta_s, None);
    }

    #[test]
    fn what_has_not_begun_or_has_nothing_left_has_no_end_in_sight() {
        assert_eq!(ProgressRate::new(Faded::default(), 1_000), ProgressRate::default());
        assert_eq!(ProgressRate::new(steady(50.0, 9.0, 0.0), 0).eta_s, None);
    }
}
