//! The permits of one call: what it took from all limits that apply to it.

use std::sync::Arc;

use domain::{ErrorClass, attempt::Fault};

use super::{Kind, LimitRule, Refused, Waiter};

/// What one call took. Slots go back when it is dropped; rates are spent, unless it is [`Permit::cancel`]led.
#[derive(Debug, Default)]
pub struct Permit {
    taken: Vec<(Arc<LimitRule>, i64)>,
    waiter: Option<Waiter>,
}

impl Permit {
    /// By hand, as tests and benchmarks do that run no granter: a rule with this grant, and a permit of one call of it.
    pub fn granted(kind: Kind, grant: i64) -> (Arc<LimitRule>, Self) {
        let rule = Arc::new(LimitRule::new(1, "deployment:d", kind));
        rule.grant(grant);
        let permit = Self::take(&[Arc::clone(&rule)], 1, Waiter::Job).unwrap_or_default();
        (rule, permit)
    }

    /// Takes from all rules or from none. When one refuses, demand is registered at the others too, so that one round
    /// brings all of it.
    pub(super) fn take(rules: &[Arc<LimitRule>], tokens: i64, waiter: Waiter) -> Result<Self, Refused> {
        let mut permit = Self { taken: Vec::with_capacity(rules.len()), waiter: Some(waiter) };
        for (n, rule) in rules.iter().enumerate() {
            match rule.take(tokens, waiter) {
                Ok(amount) => permit.taken.push((Arc::clone(rule), amount)),
                Err(refused) => {
                    rules[n + 1..].iter().for_each(|rule| rule.want(tokens, waiter));
                    permit.cancel();
                    return Err(refused);
                }
            }
        }
        Ok(permit)
    }

    /// Takes from `own`, or when that refuses from `shared`.
    pub(super) fn take_either(
        &mut self,
        own: &Arc<LimitRule>,
        shared: &Arc<LimitRule>,
        tokens: i64,
    ) -> Result<(), Refused> {
        let waiter = self.waiter();
        let (rule, amount) = match own.take(tokens, waiter) {
            Ok(amount) => (own, amount),
            Err(_) => (shared, shared.take(tokens, waiter)?),
        };
        self.taken.push((Arc::clone(rule), amount));
        Ok(())
    }

    fn waiter(&self) -> Waiter {
        self.waiter.unwrap_or(Waiter::Caller)
    }

    /// Gives everything back: no call was made.
    pub fn cancel(mut self) {
        let waiter = self.waiter();
        for (rule, amount) in std::mem::take(&mut self.taken) {
            rule.undo(amount, waiter);
        }
    }

    /// Refunds the rates: the call failed through no fault of its caller. Slots are kept until the permit is dropped.
    pub fn refund(&mut self) {
        let waiter = self.waiter();
        self.taken.retain(|(rule, amount)| {
            if rule.kind != Kind::Slots {
                rule.undo(*amount, waiter);
            }
            rule.kind == Kind::Slots
        });
    }

    /// The call failed. A deployment that did not take it keeps none of its rates; one that may have worked on it keeps what the
    /// call was estimated at, unless it said what it used.
    pub fn failed(&mut self, class: ErrorClass, used: Option<i64>) {
        match (class.fault(), used) {
            (Fault::Outage | Fault::Operator, None) => self.refund(),
            (Fault::Either, None) => {}
            (_, used) => self.settle_tokens(used.unwrap_or(0)),
        }
    }

    /// Corrects the tokens that were estimated by those that were used. A call never owes more than a minute of the limit.
    pub fn settle_tokens(&mut self, used: i64) {
        for (rule, amount) in self.taken.iter_mut().filter(|(rule, _)| rule.kind == Kind::Tpm) {
            let mut state = rule.state();
            let used = used.clamp(0, state.cap.max(0));
            match amount.saturating_sub(used) {
                more @ 0.. => state.give_back(more),
                owed => state.returned = state.returned.saturating_add(owed),
            }
            drop(state);
            *amount = used;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        for (rule, _) in self.taken.iter().filter(|(rule, _)| rule.kind == Kind::Slots) {
            rule.free(&mut rule.state());
        }
    }
}
