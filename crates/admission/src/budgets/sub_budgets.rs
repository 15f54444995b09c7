//! The parts that this replica uses, by what they are of.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono_tz::Tz;
use domain::{
    Budget,
    budget::{Facts, Policy, Scope, Unit, Window},
    money::Total,
};
use store::{PgConnection, budget::PartKey};

use super::{
    rule::{Rule, State},
    sub_budget::{Part, PartOf},
};

#[derive(Debug, Default)]
pub(super) struct Parts(Mutex<HashMap<PartKey, Arc<Rule>>>);

impl Parts {
    fn all_by_key(&self) -> MutexGuard<'_, HashMap<PartKey, Arc<Rule>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn all(&self) -> Vec<Arc<Rule>> {
        self.all_by_key().values().cloned().collect()
    }

    /// The part of a budget that a call is under; `None`: no guard looks at it.
    pub fn of(&self, whole: &Rule, facts: &Facts<'_>) -> Option<Arc<Rule>> {
        let guard = whole.budget.guard?;
        let key = PartKey { budget_id: whole.id, subject: guard.subject(facts)?, per_s: guard.per.seconds() };
        let is_still = |of: &PartOf| matches!(of, PartOf::Guard { whole: before, .. } if **before == whole.budget);
        let of = || PartOf::Guard { guard, whole: Box::new(whole.budget.clone()) };
        Some(self.find(key, &whole.name, is_still, of))
    }

    /// What a job may cost at all.
    pub fn of_job(&self, job: i64, max_cost: i128) -> Arc<Rule> {
        let of = PartOf::Job { max_cost };
        self.find(PartKey::of_job(job), "max_cost", |before| *before == of, || of.clone())
    }

    /// Of these jobs, those with a limit of their own that a call of this process is under, or was lately.
    pub fn capped(&self, jobs: impl Iterator<Item = i64>) -> HashSet<i64> {
        let parts = self.all_by_key();
        jobs.filter(|job| parts.contains_key(&PartKey::of_job(*job))).collect()
    }

    fn find(&self, key: PartKey, name: &str, is_still: impl Fn(&PartOf) -> bool, of: impl Fn() -> PartOf) -> Arc<Rule> {
        let mut parts = self.all_by_key();
        let known = parts.get(&key);
        if let Some(rule) = known
            && rule.part.as_ref().is_some_and(|part| is_still(&part.of))
        {
            return Arc::clone(rule);
        }
        let (id, state) = match known {
            // The amount was changed; what was spent stays spent.
            Some(rule) => {
                rule.state().shed();
                (rule.part.as_ref().map(|part| Arc::clone(&part.id)), Arc::clone(&rule.state))
            }
            None => (None, Arc::default()),
        };
        let rule = Arc::new(rule(name, Part { key: key.clone(), of: of(), id: id.unwrap_or_default() }, state));
        parts.insert(key, Arc::clone(&rule));
        rule
    }

    /// What is granted of these budgets' parts is granted anew: they were changed.
    pub fn shed(&self, budgets: &HashSet<i64>) {
        if budgets.is_empty() {
            return;
        }
        let parts = self.all_by_key();
        let of_them = parts.iter().filter(|(key, _)| budgets.contains(&key.budget_id));
        of_them.for_each(|(_, rule)| rule.state().shed());
    }

    pub fn is_empty(&self) -> bool {
        self.all_by_key().is_empty()
    }

    /// The ids of these, from here or from the database.
    pub async fn ids(&self, conn: &mut PgConnection, keys: Vec<PartKey>) -> store::Result<HashMap<PartKey, i64>> {
        let (mut known, mut unknown) = (HashMap::with_capacity(keys.len()), Vec::new());
        {
            let parts = self.all_by_key();
            for key in keys {
                match parts.get(&key).and_then(|rule| rule.part.as_ref()?.id()) {
                    Some(id) => drop(known.insert(key, id)),
                    None => unknown.push(key),
                }
            }
        }
        known.extend(store::budget::part_ids(conn, &unknown).await?);
        Ok(known)
    }

    /// Those that something is held or counted of. The others are let go.
    pub fn in_use(&self) -> Vec<Arc<Rule>> {
        let mut parts = self.all_by_key();
        parts.retain(|_, rule| Arc::strong_count(rule) > 1 || !rule.state().is_idle());
        parts.values().cloned().collect()
    }
}

/// Asks the database for the ids of those that have none.
pub(super) async fn name(conn: &mut PgConnection, nameless: &[Part]) -> store::Result<()> {
    let keys: Vec<PartKey> = nameless.iter().map(|part| part.key.clone()).collect();
    let ids = store::budget::part_ids(conn, &keys).await?;
    for part in nameless {
        if let Some(id) = ids.get(&part.key) {
            let _ = part.id.set(*id);
        }
    }
    Ok(())
}

/// What is left of it is held for nobody, and its requests wait whatever the whole's policy is.
fn rule(name: &str, part: Part, state: Arc<Mutex<State>>) -> Rule {
    let (unit, most, window) = match &part.of {
        PartOf::Guard { guard, whole } => (whole.unit(), guard.rate(whole.cap()), guard.window()),
        PartOf::Job { max_cost } => (Unit::Usd, *max_cost, Window::Total),
    };
    let (limit_usd, limit_tokens) = match unit {
        Unit::Usd => (Some(Total(most)), None),
        Unit::Tokens => (None, i64::try_from(most).ok()),
    };
    let budget = Budget {
        scope: Scope::default(),
        limit_usd,
        limit_tokens,
        window,
        time_zone: Tz::UTC,
        policy: Some(Policy::Hold),
        soft: false,
        thresholds: Vec::new(),
        guard: None,
    };
    Rule { part: Some(part), ..Rule::new(0, name, budget, state) }
}
