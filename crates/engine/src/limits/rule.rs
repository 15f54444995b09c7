//! One limit as this replica sees it: what it was granted, and what of that is in use.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::{ErrorClass, attempt::Fault};

use super::Refused;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Slots,
    Rpm,
    Tpm,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Slots => "slots",
            Self::Rpm => "rpm",
            Self::Tpm => "tpm",
        }
    }
    pub(super) fn from_word(word: &str) -> Option<Self> {
        match word {
            "slots" => Some(Self::Slots),
            "rpm" => Some(Self::Rpm),
            "tpm" => Some(Self::Tpm),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub struct Rule {
    pub id: i64,
    pub scope: Arc<str>,
    pub kind: Kind,
    pub(super) state: Mutex<State>,
}

#[derive(Debug, Default, Clone, Copy)]
pub(super) struct State {
    /// Slots: how many may be in use. Rates: what is left to spend.
    pub granted: i64,
    /// Slots in use now. More than were granted, after the cap was lowered, until calls have ended.
    pub used: i64,
    /// Slots: what the database holds for this replica.
    pub recorded: i64,
    /// The cap as it was last read. A new one is news for the granter.
    pub cap: i64,
    pub is_news: bool,
    /// What was refused since the granter last looked, and the largest single part of it.
    pub unmet: i64,
    pub largest: i64,
    /// Rates: what was spent since the granter last looked.
    pub spent: i64,
    /// Ticks since anything was taken or refused.
    pub idle_ticks: u32,
    /// What one call was refused, or gave back because something else refused it, since one was let through: it comes again for this.
    pub waited_for: i64,
}

impl Rule {
    pub(super) fn new(id: i64, scope: &str, kind: Kind) -> Self {
        Self { id, scope: scope.into(), kind, state: Mutex::default() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A rule with this grant, and a permit of one call of it.
    #[cfg(test)]
    pub(crate) fn granted(kind: Kind, grant: i64) -> (Arc<Self>, Permit) {
        let rule = Arc::new(Self::new(1, "deployment:d", kind));
        rule.state().granted = grant;
        let permit = Permit::take(&[Arc::clone(&rule)], 1).unwrap_or_default();
        (rule, permit)
    }
    #[cfg(test)]
    pub(crate) fn grant(&self, amount: i64) {
        self.state().granted = amount;
    }
    #[cfg(test)]
    pub(crate) fn left(&self) -> i64 {
        self.state().granted
    }

    fn amount(&self, tokens: i64) -> i64 {
        if self.kind == Kind::Tpm { tokens.max(1) } else { 1 }
    }

    fn take(&self, tokens: i64) -> bool {
        let amount = self.amount(tokens);
        let mut state = self.state();
        state.idle_ticks = 0;
        let fits = match self.kind {
            Kind::Slots => state.used < state.granted,
            Kind::Rpm | Kind::Tpm => state.granted >= amount,
        };
        if !fits {
            state.unmet += amount;
            state.largest = state.largest.max(amount);
            state.waited_for = state.waited_for.max(amount);
            return false;
        }
        state.waited_for = 0;
        match self.kind {
            Kind::Slots => state.used += 1,
            Kind::Rpm | Kind::Tpm => {
                state.granted -= amount;
                state.spent += amount;
            }
        }
        true
    }

    /// Undoes a take that led to no call: a refused call burns no limit.
    fn undo(&self, tokens: i64) {
        let amount = self.amount(tokens);
        let mut state = self.state();
        state.waited_for = state.waited_for.max(amount);
        match self.kind {
            Kind::Slots => state.used -= 1,
            Kind::Rpm | Kind::Tpm => {
                state.granted += amount;
                state.spent -= amount;
            }
        }
    }
}

/// What one call took. Slots go back when it is dropped; rates are spent, unless it is [`Permit::cancel`]led.
#[derive(Debug, Default)]
pub struct Permit {
    rules: Vec<Arc<Rule>>,
    tokens: i64,
}

impl Permit {
    pub(super) fn take(rules: &[Arc<Rule>], tokens: i64) -> Result<Self, Refused> {
        for (n, rule) in rules.iter().enumerate() {
            if !rule.take(tokens) {
                rules[..n].iter().for_each(|taken| taken.undo(tokens));
                return Err(Refused { scope: Arc::clone(&rule.scope), kind: rule.kind });
            }
        }
        Ok(Self { rules: rules.to_vec(), tokens })
    }

    /// Takes from `own`, or when that refuses from `shared`.
    pub(super) fn take_either(&mut self, own: &Arc<Rule>, shared: &Arc<Rule>) -> Result<(), Refused> {
        let Some(rule) = [own, shared].into_iter().find(|rule| rule.take(self.tokens)) else {
            return Err(Refused { scope: Arc::clone(&shared.scope), kind: shared.kind });
        };
        self.rules.push(Arc::clone(rule));
        Ok(())
    }

    /// Gives everything back: no call was made.
    pub fn cancel(mut self) {
        for rule in std::mem::take(&mut self.rules) {
            rule.undo(self.tokens);
        }
    }

    /// Gives back what it took from rates: the call came to nothing, by no fault of its caller. Slots stay until it is dropped.
    pub fn refund(&mut self) {
        let (slots, rates) = std::mem::take(&mut self.rules).into_iter().partition(|rule| rule.kind == Kind::Slots);
        self.rules = slots;
        let rates: Vec<Arc<Rule>> = rates;
        rates.iter().for_each(|rule| rule.undo(self.tokens));
    }

    /// The call failed. A deployment that did not take it keeps none of its rates; one that may have worked on it keeps what the
    /// call was estimated at, unless it said what it used.
    pub fn failed(&mut self, class: ErrorClass, used: Option<i64>) {
        match (class.fault(), used) {
            (Fault::Outage, None) => self.refund(),
            (Fault::Either, None) => {}
            (_, used) => self.settle_tokens(used.unwrap_or(0)),
        }
    }

    /// Corrects the tokens that were estimated by those that were used.
    pub fn settle_tokens(&mut self, used: i64) {
        for rule in self.rules.iter().filter(|rule| rule.kind == Kind::Tpm) {
            rule.state().granted += self.tokens - used;
        }
        self.tokens = used;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        for rule in self.rules.iter().filter(|rule| rule.kind == Kind::Slots) {
            rule.state().used -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(kind: Kind, granted: i64) -> Arc<Rule> {
        let rule = Arc::new(Rule::new(1, "team:1", kind));
        rule.state().granted = granted;
        rule
    }

    #[test]
    fn all_or_nothing() {
        let (slots, rpm) = (rule(Kind::Slots, 5), rule(Kind::Rpm, 0));
        let refused = Permit::take(&[Arc::clone(&slots), Arc::clone(&rpm)], 10).unwrap_err();
        assert_eq!(refused.kind, Kind::Rpm);
        assert_eq!((slots.state().used, rpm.state().unmet), (0, 1));
    }

    #[test]
    fn a_slot_comes_back_and_a_rate_does_not() {
        let (slots, tpm) = (rule(Kind::Slots, 1), rule(Kind::Tpm, 100));
        let mut permit = Permit::take(&[Arc::clone(&slots), Arc::clone(&tpm)], 40).unwrap();
        assert!(Permit::take(&[Arc::clone(&slots)], 1).is_err());
        permit.settle_tokens(30);
        drop(permit);
        assert_eq!((slots.state().used, tpm.state().granted), (0, 70));
        Permit::take(&[Arc::clone(&tpm)], 40).unwrap().cancel();
        assert_eq!(tpm.state().granted, 70);
    }

    #[test]
    fn a_call_that_came_to_nothing_burns_no_rate() {
        let (slots, rpm, tpm) = (rule(Kind::Slots, 1), rule(Kind::Rpm, 1), rule(Kind::Tpm, 100));
        let mut permit = Permit::take(&[Arc::clone(&slots), Arc::clone(&rpm), Arc::clone(&tpm)], 40).unwrap();
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
            Permit::take(&[Arc::clone(&rpm), Arc::clone(&tpm)], 40).unwrap().failed(class, used);
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
                if take { held.extend(Permit::take(&[Arc::clone(&slots)], 1).ok()); } else { held.pop(); }
                prop_assert!(slots.state().used <= cap);
                prop_assert_eq!(slots.state().used, held.len() as i64);
            }
        }
    }
}
