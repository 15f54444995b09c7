use std::sync::Arc;

use super::*;
use crate::limits::{Kind, LimitRule, Waiter};

fn refused(id: i64) -> Refused {
    let rules = [Arc::new(LimitRule::new(id, "team:1", Kind::Slots))];
    Limiter::default().take(&rules, 1, Waiter::Caller).unwrap_err()
}

#[test]
fn what_is_not_known_is_not_a_refusal() {
    let since = Instant::now();
    let limiter = Limiter::default();
    let verdict = |ms| limiter.verdict(refused(1), since, since + Duration::from_millis(ms));
    for waits in [0, 100, 400, 999] {
        assert!(matches!(verdict(waits), Verdict::Again), "{waits} ms");
    }
    assert!(matches!(verdict(1_000), Verdict::Unknown), "the database does not answer");
    limiter.signals.answered(false);
    assert!(matches!(verdict(0), Verdict::Unknown), "and it did not answer before");
}

#[test]
fn what_a_replica_limits_by_itself_needs_no_word_of_others() {
    let since = Instant::now();
    let verdict = |ms| Limiter::default().verdict(refused(0), since, since + Duration::from_millis(ms));
    assert!(matches!(verdict(50), Verdict::Again), "a call may end");
    assert!(matches!(verdict(100), Verdict::Full(_)));
}
