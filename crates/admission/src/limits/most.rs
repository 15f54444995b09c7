//! The largest call that limits in tokens can admit: a larger one would wait for ever.

use std::sync::Arc;

use domain::Lane;

use super::{Kind, LimitRule, Limiter};

/// The tightest of these rules that count tokens, and its cap.
pub fn most_of(rules: &[Arc<LimitRule>]) -> Option<(i64, Arc<LimitRule>)> {
    rules.iter().filter_map(most).min_by_key(|(cap, _)| *cap)
}

impl Limiter {
    /// The largest call of a deployment: bounded by its own limits, and by the larger of the lane's reserve and the
    /// shared partition.
    pub fn most_of_deployment(&self, name: &str, lane: &Lane) -> Option<(i64, Arc<LimitRule>)> {
        if self.is_empty() {
            return None;
        }
        let (all, partitions) = self.deployment_rules(name, lane);
        let either = partitions.iter().filter_map(|(own, shared)| most(own).zip(most(shared)));
        let larger = either.map(|(own, shared)| if own.0 > shared.0 { own } else { shared });
        all.iter().filter_map(most).chain(larger).min_by_key(|(cap, _)| *cap)
    }

    /// By hand, as tests do that run no granter: a limit that nothing was granted of yet.
    pub fn declare(&self, scope: &str, kind: Kind, cap: i64) {
        let rule = LimitRule::new(1, scope, kind);
        rule.state().cap = cap;
        self.by_scope
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .entry(scope.into())
            .or_default()
            .push(Arc::new(rule));
    }

    fn is_empty(&self) -> bool {
        self.by_scope.read().unwrap_or_else(std::sync::PoisonError::into_inner).is_empty()
    }
}

fn most(rule: &Arc<LimitRule>) -> Option<(i64, Arc<LimitRule>)> {
    let cap = rule.state().cap;
    // Zero before it was read.
    (rule.kind == Kind::Tpm && cap > 0).then(|| (cap, Arc::clone(rule)))
}
