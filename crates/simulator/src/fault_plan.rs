//! What becomes of a call.

use crate::deployment::{Deployment, Plan};
use crate::rng::Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Answer,
    /// Refused at once with this status.
    Throttle {
        status: u16,
        retry_after_s: Option<u64>,
    },
    ServerError,
    Garbage,
    WrongType,
    Cut,
    Hang,
}

/// Draws a call's fate: throttle windows first, then the limit per minute, then one draw among the faults.
pub fn decide(deployment: &Deployment, plan: &Plan, rng: &mut Rng, now_us: u64) -> Fault {
    let since_ms = now_us.saturating_sub(plan.throttle_since_us) / 1_000;
    for window in &plan.config.throttle {
        let over = window.from_ms.saturating_add(window.for_ms);
        if (window.from_ms..over).contains(&since_ms) && rng.fraction() < window.share {
            return Fault::Throttle { status: window.status, retry_after_s: window.retry_after_s };
        }
    }
    if let Some(rpm) = plan.config.rpm
        && let Err(seconds) = deployment.take_call(rpm, now_us)
    {
        return Fault::Throttle { status: 429, retry_after_s: Some(seconds) };
    }
    let faults = [
        (plan.config.error_rate, Fault::ServerError),
        (plan.config.garbage_rate, Fault::Garbage),
        (plan.config.wrong_type_rate, Fault::WrongType),
        (plan.config.cut_rate, Fault::Cut),
        (plan.config.hang_rate, Fault::Hang),
    ];
    let mut draw = rng.fraction();
    for (rate, fault) in faults {
        if draw < rate {
            return fault;
        }
        draw -= rate;
    }
    Fault::Answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Throttle};

    fn outcomes(config: Config, now_us: u64) -> Vec<Fault> {
        let deployment = Deployment::new(0, config, 0);
        let plan = deployment.plan();
        (0..1_000).map(|_| decide(&deployment, &plan, &mut deployment.rng(&plan), now_us)).collect()
    }

    fn count(outcomes: &[Fault], fault: Fault) -> usize {
        outcomes.iter().filter(|&&f| f == fault).count()
    }

    #[test]
    fn faults_come_at_their_rates() {
        let config = Config {
            error_rate: 0.1,
            garbage_rate: 0.1,
            wrong_type_rate: 0.1,
            cut_rate: 0.1,
            hang_rate: 0.1,
            ..Config::default()
        };
        let outcomes = outcomes(config, 0);
        let all = [Fault::ServerError, Fault::Garbage, Fault::WrongType, Fault::Cut, Fault::Hang];
        for fault in all {
            assert!((70..130).contains(&count(&outcomes, fault)), "{fault:?}");
        }
        assert!((450..550).contains(&count(&outcomes, Fault::Answer)));
    }

    #[test]
    fn a_rate_of_one_leaves_no_other_fate() {
        let config = Config { hang_rate: 1.0, ..Config::default() };
        assert_eq!(count(&outcomes(config, 0), Fault::Hang), 1_000);
        assert_eq!(count(&outcomes(Config::default(), 0), Fault::Answer), 1_000);
    }

    #[test]
    fn a_window_refuses_its_share_while_it_lasts() {
        let config = Config {
            throttle: vec![Throttle { status: 529, from_ms: 100, for_ms: 50, retry_after_s: Some(3), share: 0.5 }],
            ..Config::default()
        };
        let refused = Fault::Throttle { status: 529, retry_after_s: Some(3) };
        assert_eq!(count(&outcomes(config.clone(), 99_999), refused), 0);
        assert!((430..570).contains(&count(&outcomes(config.clone(), 100_000), refused)));
        assert_eq!(count(&outcomes(config, 150_000), refused), 0);
    }

    #[test]
    fn beyond_the_minutes_limit_calls_are_throttled() {
        let config = Config { rpm: Some(10), ..Config::default() };
        let outcomes = outcomes(config, 7_000_000_000);
        assert_eq!(count(&outcomes, Fault::Answer), 10);
        assert_eq!(count(&outcomes, Fault::Throttle { status: 429, retry_after_s: Some(60) }), 990);
    }
}
