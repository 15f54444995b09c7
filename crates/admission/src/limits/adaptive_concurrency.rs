//! Adaptive concurrency (AIMD): how many calls at once a deployment takes, learnt from its refusals. The ceiling is
//! halved when the deployment throttles, and grows by one for each round of answers. It is a rule like any other, but
//! granted by the replica itself instead of the database. Before the first refusal there is no ceiling.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use domain::Lane;
use foldhash::HashMap;
use metrics::gauge;

use super::{Kind, LimitRule, Reserves, lane_partition};

/// Refusals within this are one burst: the calls were under way together.
const BURST_WINDOW: Duration = Duration::from_secs(1);
const UNLIMITED: i64 = i64::MAX;

/// The concurrency ceilings of all deployments that were called.
#[derive(Debug, Default)]
pub struct AdaptiveConcurrency(Mutex<HashMap<Arc<str>, DeploymentConcurrency>>);

#[derive(Debug)]
struct DeploymentConcurrency {
    rule: Arc<LimitRule>,
    /// The part that all lanes share, and each lane's reserve.
    shared: Arc<LimitRule>,
    own: Vec<Arc<LimitRule>>,
    reserves: Reserves,
    /// Calls at once; `None` before the first refusal, and again when it has grown past what was refused.
    ceiling: Option<f64>,
    /// Where it was refused, or what the operator allows: beyond twice that there is nothing to learn.
    enough: f64,
    cut_at: Option<Instant>,
}

impl AdaptiveConcurrency {
    fn all(&self) -> MutexGuard<'_, HashMap<Arc<str>, DeploymentConcurrency>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the rules that a call of the lane takes from, and the pair (reserve, shared): the call takes from one of
    /// these two.
    pub(super) fn add_rules(
        &self,
        deployment: &str,
        lane: &Lane,
        reserves: &Reserves,
        all: &mut Vec<Arc<LimitRule>>,
        either: &mut Vec<(Arc<LimitRule>, Arc<LimitRule>)>,
    ) {
        let mut concurrency = self.all();
        if !concurrency.contains_key(deployment) {
            concurrency.insert(deployment.into(), DeploymentConcurrency::new(deployment, reserves));
        }
        let Some(one) = concurrency.get_mut(deployment) else { return };
        if *one.reserves != **reserves {
            one.follow(deployment, reserves);
        }
        all.push(Arc::clone(&one.rule));
        match one.reserves.iter().position(|(of, _)| of == lane) {
            Some(n) => either.push((Arc::clone(&one.own[n]), Arc::clone(&one.shared))),
            None if !one.own.is_empty() => all.push(Arc::clone(&one.shared)),
            None => {}
        }
    }

    /// The deployment refused a call because there were too many.
    pub fn refused(&self, deployment: &str, now: Instant) {
        let mut all = self.all();
        let Some(one) = all.get_mut(deployment) else { return };
        if one.cut_at.is_some_and(|at| now < at + BURST_WINDOW) {
            return;
        }
        // The refused call itself is among them.
        let under_way = one.rule.state().used.max(1) as f64;
        if one.ceiling.is_none() {
            one.enough = under_way;
        }
        let ceiling = one.ceiling.map_or(under_way, |ceiling| ceiling.min(under_way));
        one.set(deployment, Some((ceiling / 2.0).max(1.0)));
        one.cut_at = Some(now);
    }

    /// The deployment answered a call. `most`: the slots that the operator gave it.
    pub fn answered(&self, deployment: &str, most: impl FnOnce() -> Option<i64>) {
        let mut all = self.all();
        let Some(one) = all.get_mut(deployment) else { return };
        let Some(ceiling) = one.ceiling else { return };
        let next = ceiling + 1.0 / ceiling;
        let is_over = next > one.enough * 2.0 || most().is_some_and(|most| next >= most as f64);
        one.set(deployment, (!is_over).then_some(next));
    }

    /// The ceiling of the deployment on this replica; `None` if it has not refused calls.
    pub fn ceiling(&self, deployment: &str) -> Option<i64> {
        self.all().get(deployment)?.ceiling.map(|ceiling| ceiling as i64)
    }
}

/// No id: it is in no table.
fn rule(deployment: &str) -> Arc<LimitRule> {
    let rule = Arc::new(LimitRule::new(0, &format!("deployment:{deployment}, adapted to its refusals"), Kind::Slots));
    rule.state().granted = UNLIMITED;
    rule
}

impl DeploymentConcurrency {
    fn new(deployment: &str, reserves: &Reserves) -> Self {
        let own = reserves.iter().map(|_| rule(deployment)).collect();
        let (whole, shared, reserves) = (rule(deployment), rule(deployment), Arc::clone(reserves));
        Self { rule: whole, shared, own, reserves, ceiling: None, enough: 0.0, cut_at: None }
    }

    /// The lanes' reserves have changed. Calls in flight keep the rule they took from.
    fn follow(&mut self, deployment: &str, reserves: &Reserves) {
        let known = |lane| self.reserves.iter().position(|(of, _)| of == lane).map(|n| Arc::clone(&self.own[n]));
        self.own = reserves.iter().map(|(lane, _)| known(lane).unwrap_or_else(|| rule(deployment))).collect();
        self.reserves = Arc::clone(reserves);
        self.divide();
    }

    /// Divides the ceiling of the deployment among the lanes.
    fn divide(&self) {
        let most = self.ceiling.map(|ceiling| ceiling as i64);
        self.rule.state().granted = most.unwrap_or(UNLIMITED);
        let own = most.map(|most| lane_partition::own(most, &self.reserves));
        self.shared.state().granted =
            most.zip(own.as_ref()).map_or(UNLIMITED, |(most, own)| most - own.iter().sum::<i64>());
        for (n, rule) in self.own.iter().enumerate() {
            rule.state().granted = own.as_ref().map_or(UNLIMITED, |own| own[n]);
        }
    }

    fn set(&mut self, deployment: &str, ceiling: Option<f64>) {
        self.ceiling = ceiling;
        self.divide();
        gauge!("tollway_deployment_adapted_slots", "deployment" => deployment.to_owned())
            .set(ceiling.map_or(f64::INFINITY, f64::floor));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{Limiter, Permit, Waiter};

    fn calls(limiter: &Limiter, n: usize) -> Vec<Permit> {
        let take = |_| limiter.take_deployment("a", &Lane::bulk(), &Reserves::default(), 1, Waiter::Job).ok();
        (0..n).filter_map(take).collect()
    }

    #[test]
    fn a_burst_of_refusals_halves_once_and_answers_grow_it_back() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        let concurrency = &limiter.concurrency;
        let held = calls(&limiter, 64);
        assert_eq!((held.len(), concurrency.ceiling("a")), (64, None));
        (0..10).for_each(|_| concurrency.refused("a", now));
        assert_eq!(concurrency.ceiling("a"), Some(32));
        drop(held);
        assert_eq!(calls(&limiter, 64).len(), 32, "the same mechanism as any limit");
        // A round of answers is worth one call.
        (0..33).for_each(|_| concurrency.answered("a", || Some(64)));
        assert_eq!(concurrency.ceiling("a"), Some(33));
        (0..4_000).for_each(|_| concurrency.answered("a", || Some(64)));
        assert_eq!(concurrency.ceiling("a"), None, "it is what the operator allows again");
    }

    #[test]
    fn it_falls_to_one_and_no_further() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        let concurrency = &limiter.concurrency;
        let _held = calls(&limiter, 8);
        (0..9).for_each(|n| concurrency.refused("a", now + BURST_WINDOW * n));
        assert_eq!(concurrency.ceiling("a"), Some(1));
        (0..1_000).for_each(|_| concurrency.answered("a", || None));
        assert_eq!(concurrency.ceiling("a"), None, "twice what it refused is enough to know");
    }
}
