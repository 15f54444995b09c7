//! How often a request may be called: what counts as an attempt, and when the last one was made. Over all leases of the request.

use domain::{ErrorClass, attempt::Fault};

use admission::route::Blame;

/// Calls of one request, whatever became of them. Only a provider that is away for days brings a request this far.
const MOST_CALLS: i32 = 10_000;
/// Calls after which a failure that may be the request's own is: not even an outage of hours keeps a poisonous request for ever.
const MOST_SUSPECT_CALLS: i32 = 100;

/// What is known of a failed call.
#[derive(Debug, Clone, Copy)]
pub struct Failed {
    pub class: ErrorClass,
    pub blame: Blame,
    /// The provider may have billed it.
    pub is_paid: bool,
}

/// Counts the calls of one request.
#[derive(Debug, Clone, Copy)]
pub struct Tries {
    max_attempts: i32,
    /// Attempts used up: those of earlier leases, and the paid ones of this.
    used: i32,
    /// Calls made, over all leases.
    calls: i32,
    /// Since the request was claimed.
    round: Round,
}

#[derive(Debug, Clone, Copy, Default)]
struct Round {
    calls: i32,
    has_paid: bool,
    /// One of its failures was the request's own.
    is_to_blame: bool,
    last: Option<ErrorClass>,
}

impl Tries {
    /// `used`: attempts that count; `calls`: provider calls, both before this round.
    pub fn new(max_attempts: i16, used: i16, calls: i32) -> Self {
        Self { max_attempts: max_attempts.into(), used: used.into(), calls, round: Round::default() }
    }

    /// A call is about to be made.
    pub fn begin(&mut self) {
        self.calls += 1;
        self.round.calls += 1;
    }

    pub fn failed(&mut self, failed: Failed) {
        self.round.last = Some(failed.class);
        if failed.is_paid {
            // No matter what is to blame: a paid call costs money, so their number is bounded.
            self.used += 1;
            self.round.has_paid = true;
            return;
        }
        // A request is given the benefit of the doubt once.
        let is_doubted = failed.blame == Blame::Unclear && self.calls > self.round.calls;
        self.round.is_to_blame |= failed.blame == Blame::Request || is_doubted;
    }

    /// Whether no further call may be made, not even to another deployment.
    pub fn are_spent(&self) -> bool {
        let is_suspect = self.round.last.is_some_and(|class| class.fault() == Fault::Either || is_refusal(class));
        self.used >= self.max_attempts
            || self.calls >= MOST_CALLS
            || (is_suspect && self.calls >= MOST_SUSPECT_CALLS.max(self.max_attempts))
    }

    /// No deployment is left for now. A round that only failed by the request itself is one attempt.
    pub fn end_round(&mut self) {
        if self.round.is_to_blame && !self.round.has_paid {
            self.used += 1;
        }
        self.round.is_to_blame = false;
    }

    /// Attempts used up, as lease and retry keep them.
    pub fn used(&self) -> i16 {
        i16::try_from(self.used).unwrap_or(i16::MAX)
    }
}

fn is_refusal(class: ErrorClass) -> bool {
    matches!(class, ErrorClass::Credential | ErrorClass::ModelNotFound)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn failed(class: ErrorClass, blame: Blame, is_paid: bool) -> Failed {
        Failed { class, blame, is_paid }
    }

    #[test]
    fn a_paid_failure_is_an_attempt_whatever_the_breaker_says() {
        let mut tries = Tries::new(2, 0, 0);
        for spent in [false, true] {
            tries.begin();
            tries.failed(failed(ErrorClass::Garbage, Blame::Deployment, true));
            assert_eq!(tries.are_spent(), spent, "before another deployment is called");
        }
        let mut later = Tries::new(2, 1, 1);
        later.begin();
        later.failed(failed(ErrorClass::Cut, Blame::Deployment, true));
        assert!(later.are_spent(), "the first was paid under an earlier lease");
    }

    #[test]
    fn an_outage_uses_up_nothing() {
        let mut tries = Tries::new(1, 0, 0);
        for _ in 0..500 {
            tries.begin();
            tries.failed(failed(ErrorClass::Throttled, Blame::Deployment, false));
            tries.end_round();
            assert!(!tries.are_spent());
        }
        assert_eq!(tries.used(), 0);
    }

    #[test]
    fn a_round_of_errors_is_one_attempt() {
        let mut tries = Tries::new(2, 0, 0);
        for _ in 0..3 {
            tries.begin();
            tries.failed(failed(ErrorClass::ServerError, Blame::Request, false));
        }
        assert!(!tries.are_spent());
        tries.end_round();
        assert_eq!(tries.used(), 1);
    }

    #[test]
    fn a_doubt_is_given_once() {
        let unclear = failed(ErrorClass::Credential, Blame::Unclear, false);
        let mut first = Tries::new(3, 0, 0);
        first.begin();
        first.failed(unclear);
        first.end_round();
        assert_eq!(first.used(), 0);
        let mut second = Tries::new(3, first.used(), 1);
        second.begin();
        second.failed(unclear);
        second.end_round();
        assert_eq!(second.used(), 1, "others were not heard of, so it fails alone");
    }

    #[test]
    fn every_request_has_a_last_try() {
        let mut tries = Tries::new(3, 0, 0);
        let mut calls = 0;
        while !tries.are_spent() {
            calls += 1;
            tries.begin();
            tries.failed(failed(ErrorClass::ServerError, Blame::Deployment, false));
            tries.end_round();
        }
        assert_eq!(calls, MOST_SUSPECT_CALLS);
    }

    proptest! {
        /// Over any number of leases, with any failures, and with a success at the end.
        #[test]
        fn paid_calls_never_exceed_max_attempts(
            max in 1i16..6,
            rounds in proptest::collection::vec(proptest::collection::vec((any::<bool>(), 0u8..3), 1..4), 1..40),
        ) {
            let (mut used, mut calls, mut paid) = (0, 0, 0);
            'all: for round in rounds {
                let mut tries = Tries::new(max, used, calls);
                if tries.are_spent() { break }
                for (is_paid, blame) in round {
                    tries.begin();
                    calls += 1;
                    paid += i16::from(is_paid);
                    let blame = [Blame::Deployment, Blame::Unclear, Blame::Request][usize::from(blame)];
                    tries.failed(failed(ErrorClass::Garbage, blame, is_paid));
                    prop_assert!(paid <= max, "{paid} of {max}");
                    if tries.are_spent() { break 'all }
                }
                tries.end_round();
                used = tries.used();
                if tries.are_spent() { break }
                prop_assert!(paid < max, "one more may succeed, and that is paid too");
            }
        }
    }
}
