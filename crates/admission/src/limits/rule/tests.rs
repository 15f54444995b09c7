use domain::ErrorClass;
use proptest::prelude::*;

use super::*;
use crate::limits::Permit;

fn rule(kind: Kind, granted: i64) -> Arc<LimitRule> {
    let rule = Arc::new(LimitRule::new(1, "team:1", kind));
    rule.grant(granted);
    rule
}

#[test]
fn all_or_nothing() {
    let (slots, rpm) = (rule(Kind::Slots, 5), rule(Kind::Rpm, 0));
    let refused = Permit::take(&[Arc::clone(&slots), Arc::clone(&rpm)], 10, Waiter::Job).unwrap_err();
    assert_eq!(refused.kind, Kind::Rpm);
    assert_eq!((slots.state().used, rpm.state().unmet), (0, 1));
}

#[test]
fn a_slot_comes_back_and_a_rate_does_not() {
    let (slots, tpm) = (rule(Kind::Slots, 1), rule(Kind::Tpm, 100));
    let mut permit = Permit::take(&[Arc::clone(&slots), Arc::clone(&tpm)], 40, Waiter::Job).unwrap();
    assert!(Permit::take(&[Arc::clone(&slots)], 1, Waiter::Job).is_err());
    permit.settle_tokens(30);
    drop(permit);
    assert_eq!((slots.state().used, tpm.state().granted), (0, 70));
    Permit::take(&[Arc::clone(&tpm)], 40, Waiter::Job).unwrap().cancel();
    assert_eq!(tpm.state().granted, 70);
}

#[test]
fn a_call_that_came_to_nothing_burns_no_rate() {
    let (slots, rpm, tpm) = (rule(Kind::Slots, 1), rule(Kind::Rpm, 1), rule(Kind::Tpm, 100));
    let mut permit = Permit::take(&[Arc::clone(&slots), Arc::clone(&rpm), Arc::clone(&tpm)], 40, Waiter::Job).unwrap();
    permit.refund();
    assert_eq!((rpm.state().granted, tpm.state().granted), (1, 100));
    assert_eq!(slots.state().used, 1, "it is still being settled");
    // What is said of it later changes nothing.
    permit.settle_tokens(0);
    drop(permit);
    assert_eq!((slots.state().used, rpm.state().granted, tpm.state().granted), (0, 1, 100));
}

#[test]
fn a_failed_call_burns_what_the_deployment_worked_on() {
    let left = |class, used| {
        let (rpm, tpm) = (rule(Kind::Rpm, 10), rule(Kind::Tpm, 100));
        Permit::take(&[Arc::clone(&rpm), Arc::clone(&tpm)], 40, Waiter::Job).unwrap().failed(class, used);
        (rpm.state().granted, tpm.state().granted)
    };
    for class in [ErrorClass::Connect, ErrorClass::ConnectTimeout, ErrorClass::Throttled, ErrorClass::Credential] {
        assert_eq!(left(class, None), (10, 100), "{class:?}: it was not taken");
    }
    assert_eq!(left(ErrorClass::InvalidRequest, None), (9, 100), "it was read, and nothing was made of it");
    assert_eq!(left(ErrorClass::ReadTimeout, None), (9, 60), "nobody knows");
    assert_eq!(left(ErrorClass::Cut, Some(25)), (9, 75), "it said so");
}

proptest! {
    #[test]
    fn use_never_exceeds_the_grant(cap in 0i64..8, steps in proptest::collection::vec(any::<bool>(), 0..64)) {
        let slots = rule(Kind::Slots, cap);
        let mut held = Vec::new();
        for take in steps {
            if take { held.extend(Permit::take(&[Arc::clone(&slots)], 1, Waiter::Job).ok()); } else { held.pop(); }
            prop_assert!(slots.state().used <= cap);
            prop_assert_eq!(slots.state().used, held.len() as i64);
        }
    }
}

#[test]
fn no_call_takes_or_owes_more_than_a_minute_of_a_rate() {
    let tpm = rule(Kind::Tpm, 1_000);
    tpm.state().cap = 1_000;
    for tokens in [1_000_000_000_000, i64::MAX, i64::MIN] {
        tpm.grant(1_000);
        let mut permit = Permit::take(&[Arc::clone(&tpm)], tokens, Waiter::Caller).unwrap();
        assert_eq!(tpm.left(), if tokens > 0 { 0 } else { 999 }, "{tokens}");
        permit.settle_tokens(i64::MAX);
        let owed = -tpm.state().returned;
        assert!(owed <= 1_000, "{owed} owed for a call of {tokens} tokens");
        tpm.state().returned = 0;
    }
    tpm.grant(0);
    (0..3).for_each(|_| assert!(Permit::take(&[Arc::clone(&tpm)], i64::MAX, Waiter::Job).is_err()));
    let state = *tpm.state();
    assert_eq!((state.unmet, state.largest), (3_000, 1_000));
}

#[test]
fn what_comes_back_after_the_database_heard_that_it_is_spent_goes_to_the_bucket() {
    let tpm = rule(Kind::Tpm, 100);
    let mut permit = Permit::take(&[Arc::clone(&tpm)], 80, Waiter::Job).unwrap();
    tpm.state().recorded = 20;
    permit.settle_tokens(30);
    assert_eq!((tpm.left(), tpm.state().returned), (20, 50));
}

/// All that a call lacks comes in one round, not one limit after another.
#[test]
fn one_refusal_asks_for_everything_that_the_call_lacks() {
    let rules = [rule(Kind::Slots, 0), rule(Kind::Rpm, 5), rule(Kind::Tpm, 10)];
    let refused = Permit::take(&rules, 40, Waiter::Caller).unwrap_err();
    assert_eq!(refused.kind, Kind::Slots);
    assert_eq!(rules.each_ref().map(|rule| rule.state().unmet), [1, 0, 40]);
    assert!(rules[2].state().waited_for == 0, "nothing is kept for a caller that is gone");
}
