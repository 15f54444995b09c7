//! What becomes of a call.

use crate::deployment::{Deployment, Plan};
use crate::rng::Dice;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
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
pub fn decide(deployment: &Deployment, plan: &Plan, dice: &mut Dice, now_us: u64) -> Fate {
    let since_ms = now_us.saturating_sub(plan.throttle_since_us) / 1_000;
    for window in &plan.config.throttle {
        let over = window.from_ms.saturating_add(window.for_ms);
        if (window.from_ms..over).contains(&since_ms) && dice.fraction() < window.share {
            return Fate::Throttle { status: window.status, retry_after_s: window.retry_after_s };
        }
    }
    if let Some(rpm) = plan.config.rpm
        && let Err(seconds) = deployment.take_call(rpm, now_us)
    {
        return Fate::Throttle { status: 429, retry_after_s: Some(seconds) };
    }
    let faults = [
        (plan.config.error_rate, Fate::ServerError),
        (plan.config.garbage_rate, Fate::Garbage),
        (plan.config.wrong_type_rate, Fate::WrongType),
        (plan.config.cut_rate, Fate::Cut),
        (plan.config.hang_rate, Fate::Hang),
    ];
    let mut draw = dice.fraction();
    for (rate, fate) in faults {
        if draw < rate {
            return fate;
        }
        draw -= rate;
    }
    Fate::Answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Throttle};

    fn fates(config: Config, now_us: u64) -> Vec<Fate> {
        let deployment = Deployment::new(0, config, 0);
        let plan = deployment.plan();
        (0..1_000).map(|_| decide(&deployment, &plan, &mut deployment.dice(&plan), now_us)).collect()
    }

    fn count(fates: &[Fate], fate: Fate) -> usize {
        fates.iter().filter(|&&f| f == fate).count()
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
        let fates = fates(config, 0);
        let all = [Fate::ServerError, Fate::Garbage, Fate::WrongType, Fate::Cut, Fate::Hang];
        for fate in all {
            assert!((70..130).contains(&count(&fates, fate)), "{fate:?}");
        }
        assert!((450..550).contains(&count(&fates, Fate::Answer)));
    }

    #[test]
    fn a_rate_of_one_leaves_no_other_fate() {
        let config = Config { hang_rate: 1.0, ..Config::default() };
        assert_eq!(count(&fates(config, 0), Fate::Hang), 1_000);
        assert_eq!(count(&fates(Config::default(), 0), Fate::Answer), 1_000);
    }

    #[test]
    fn a_window_refuses_its_share_while_it_lasts() {
        let config = Config {
            throttle: vec![Throttle { status: 529, from_ms: 100, for_ms: 50, retry_after_s: Some(3), share: 0.5 }],
            ..Config::default()
        };
        let refused = Fate::Throttle { status: 529, retry_after_s: Some(3) };
        assert_eq!(count(&fates(config.clone(), 99_999), refused), 0);
        assert!((430..570).contains(&count(&fates(config.clone(), 100_000), refused)));
        assert_eq!(count(&fates(config, 150_000), refused), 0);
    }

    #[test]
    fn beyond_the_minutes_limit_calls_are_throttled() {
        let config = Config { rpm: Some(10), ..Config::default() };
        let fates = fates(config, 7_000_000_000);
        assert_eq!(count(&fates, Fate::Answer), 10);
        assert_eq!(count(&fates, Fate::Throttle { status: 429, retry_after_s: Some(60) }), 990);
    }
}
