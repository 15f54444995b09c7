//! Parts of budgets: what a guard lets one job, feature or team spend in a time that rolls. A part is a rule like any other: a call
//! holds what it can cost of it too, so nobody spends faster, through however many replicas. Each is there as long as it is used.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use chrono_tz::Tz;
use domain::{
    Budget,
    budget::{Facts, Guard, Policy, Scope, Unit},
};
use store::{PgConnection, budget::PartKey};

use super::rule::{Rule, State};

/// Whose part a rule is.
#[derive(Debug, Clone)]
pub struct Part {
    pub key: PartKey,
    pub guard: Guard,
    /// As it is declared.
    pub whole: Budget,
    /// Given by the database.
    id: Arc<OnceLock<i64>>,
}

impl Part {
    pub fn id(&self) -> Option<i64> {
        self.id.get().copied()
    }
}

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
        let mut parts = self.all_by_key();
        match parts.get(&key) {
            Some(part) if is_still(part, whole) => Some(Arc::clone(part)),
            known => {
                let (id, state) = match known {
                    // The amount was changed; what was spent stays spent.
                    Some(part) => (part.part.as_ref().map(|part| Arc::clone(&part.id)), Arc::clone(&part.state)),
                    None => (None, Arc::default()),
                };
                let part = Part { key: key.clone(), guard, whole: whole.budget.clone(), id: id.unwrap_or_default() };
                let rule = Arc::new(rule(whole, part, state));
                parts.insert(key, Arc::clone(&rule));
                Some(rule)
            }
        }
    }

    pub fn has_nameless(&self) -> bool {
        self.all_by_key().values().any(|rule| rule.known_id().is_none())
    }

    /// Asks the database for the ids of those that have none.
    pub async fn name(&self, conn: &mut PgConnection) -> store::Result<()> {
        let nameless: Vec<Part> =
            self.all_by_key().values().filter_map(|rule| rule.part.clone()).filter(|part| part.id().is_none()).collect();
        let keys: Vec<PartKey> = nameless.iter().map(|part| part.key.clone()).collect();
        let ids = store::budget::part_ids(conn, &keys).await?;
        for part in nameless {
            if let Some(id) = ids.get(&part.key) {
                let _ = part.id.set(*id);
            }
        }
        Ok(())
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

    /// Lets go of those that nothing is held or counted of any more.
    pub fn forget_idle(&self) {
        self.all_by_key().retain(|_, rule| Arc::strong_count(rule) > 1 || !rule.state().is_idle());
    }
}

/// Nothing of the whole was changed since.
fn is_still(part: &Rule, whole: &Rule) -> bool {
    part.part.as_ref().is_some_and(|part| part.whole == whole.budget)
}

/// What is left of it is held for nobody, and its requests wait whatever the whole's policy is.
fn rule(whole: &Rule, part: Part, state: Arc<Mutex<State>>) -> Rule {
    let rate = part.guard.rate(part.whole.cap());
    let (limit_usd, limit_tokens) = match whole.unit {
        Unit::Usd => (Some(domain::money::Total(rate)), None),
        Unit::Tokens => (None, i64::try_from(rate).ok()),
    };
    let budget = Budget {
        scope: Scope::default(),
        limit_usd,
        limit_tokens,
        window: part.guard.window(),
        time_zone: Tz::UTC,
        policy: Some(Policy::Hold),
        soft: false,
        thresholds: Vec::new(),
        guard: None,
    };
    Rule { part: Some(part), ..Rule::new(0, &whole.name, budget, state) }
}
