//! Takes grants from Postgres on demand, and returns unused ones.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use store::limit::{LimitRow, Want};
use tokio::sync::Notify;
use tracing::warn;

use super::{
    LimitRule, Limiter,
    collect_demand::{Occasion, Pending, collect_demand},
    kind::Kind,
};
use crate::{AdmissionControl, granter::Grants};

/// The longest that a round may take, and reading the limits.
const ROUND_TIMEOUT: Duration = Duration::from_secs(2);

/// Bounds an exchange in time, so that waiting calls learn soon that the database does not answer.
async fn in_time<T>(work: impl Future<Output = store::Result<T>>) -> store::Result<T> {
    tokio::time::timeout(ROUND_TIMEOUT, work).await.unwrap_or_else(|_| Err(store::Error::PoolTimedOut))
}

/// Follows the rules in force, keeping the state of those that stay.
pub async fn reload(control: &AdmissionControl) -> store::Result<()> {
    // Two concurrent reloads would each create a rule for a new limit, and permits taken from one of the two would be
    // lost.
    let _one = control.limits.reloading.lock().await;
    let mut conn = control.pools.work.acquire().await?;
    let rows = store::limit::active(&mut conn).await?;
    drop(conn);
    let limits = &control.limits;
    let known: HashMap<i64, Arc<LimitRule>> = limits.all().into_iter().map(|rule| (rule.id, rule)).collect();
    let mut next: HashMap<Arc<str>, Vec<Arc<LimitRule>>> = HashMap::new();
    for LimitRow { limit_id, scope, kind, cap, generation, .. } in rows {
        let Some(kind) = Kind::from_word(&kind) else { continue };
        // Slots are held by calls under way, whatever the limit was when they began; what was held of a rate, or is owed, is forgotten.
        let is_same = |rule: &&Arc<LimitRule>| kind == Kind::Slots || rule.generation == generation;
        let rule = known.get(&limit_id).filter(is_same).cloned().unwrap_or_else(|| {
            let rule = LimitRule::of(limit_id, generation, &scope, kind, Arc::clone(&limits.signals));
            // Other replicas may still count an earlier grant of this one.
            rule.follow(cap, generation > 0);
            Arc::new(rule)
        });
        let is_changed = rule.state().cap != cap;
        rule.follow(cap, is_changed);
        next.entry(scope.into()).or_default().push(rule);
    }
    *limits.by_scope.write().unwrap_or_else(PoisonError::into_inner) = next;
    Ok(())
}

impl Grants for Limiter {
    fn demand(&self) -> &Notify {
        &self.signals.demand
    }

    async fn tick(&self, control: &AdmissionControl) -> store::Result<bool> {
        in_time(reload(control)).await?;
        self.signals.answered(true);
        round(control, Occasion::Tick).await
    }

    async fn meet_demand(&self, control: &AdmissionControl) -> store::Result<bool> {
        round(control, Occasion::Demand).await
    }

    fn failed(&self, error: &store::Error) {
        self.signals.answered(false);
        warn!(%error, "Limit grants could not be exchanged with the database; the current grants stay in force");
    }
}

impl Limiter {
    /// The database has lost this replica's grants. Permits in use are reported again before anything new is taken.
    pub fn start_over(&self) {
        for rule in self.all() {
            let mut state = rule.state();
            match rule.kind {
                Kind::Slots => {
                    state.granted = state.granted.min(state.used);
                    (state.recorded, state.is_news) = (state.used, true);
                }
                Kind::Rpm | Kind::Tpm => (state.granted, state.recorded) = (0, 0),
            }
            state.view = None;
        }
    }

    /// Another replica is short of these limits.
    pub(crate) fn asked_for(&self, limits: &[i64]) {
        for rule in self.all().iter().filter(|rule| limits.contains(&rule.id)) {
            let mut state = rule.state();
            if state.holds_anything() {
                state.is_asked = true;
                self.signals.demand.notify_one();
            }
        }
    }

    /// Another replica returned part of its grants of these limits.
    pub(crate) fn freed(&self, limits: &[i64]) {
        for rule in self.all().iter().filter(|rule| limits.contains(&rule.id)) {
            let mut state = rule.state();
            if state.refused_at.is_some() {
                state.is_freed = true;
                self.signals.demand.notify_one();
                self.signals.changed();
            }
        }
    }

    fn all(&self) -> Vec<Arc<LimitRule>> {
        self.by_scope.read().unwrap_or_else(PoisonError::into_inner).values().flatten().cloned().collect()
    }
}

/// One exchange with Postgres for all limits together, if there is demand or something to return. Returns whether
/// requests of jobs asked for any of it.
async fn round(control: &AdmissionControl, occasion: Occasion) -> store::Result<bool> {
    let pending: Vec<Pending> = control.limits.all().iter().filter_map(|rule| collect_demand(rule, occasion)).collect();
    if pending.is_empty() {
        return Ok(false);
    }
    let wants: Vec<Want> = pending.iter().map(|one| one.want).collect();
    let done = in_time(async {
        let mut tx = control.pools.work.begin().await?;
        let answers = store::limit::exchange(&mut tx, control.worker_id, &wants).await?;
        tx.commit().await?;
        Ok(answers)
    });
    let answers = done.await.inspect_err(|_| pending.iter().for_each(Pending::fail))?;
    let answers: HashMap<i64, _> = answers.into_iter().map(|answer| (answer.limit_id, answer)).collect();
    for one in &pending {
        if let Some(answer) = answers.get(&one.want.limit_id) {
            one.take_in(answer);
        }
    }
    control.limits.signals.changed();
    Ok(pending.iter().any(|one| one.is_for_jobs))
}

#[cfg(test)]
mod tests;
