//! The sub-budgets in use on this replica, by key.

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
use store::{PgConnection, budget::SubBudgetKey};

use super::{
    rule::{BudgetRule, State},
    sub_budget::{SubBudget, SubBudgetOf},
};

#[derive(Debug, Default)]
pub(super) struct SubBudgets(Mutex<HashMap<SubBudgetKey, Arc<BudgetRule>>>);

impl SubBudgets {
    fn all_by_key(&self) -> MutexGuard<'_, HashMap<SubBudgetKey, Arc<BudgetRule>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn all(&self) -> Vec<Arc<BudgetRule>> {
        self.all_by_key().values().cloned().collect()
    }

    /// The sub-budget that applies to a call; `None` if no guard does.
    pub fn of(&self, whole: &BudgetRule, facts: &Facts<'_>) -> Option<Arc<BudgetRule>> {
        let guard = whole.budget.guard?;
        let key = SubBudgetKey { budget_id: whole.id, subject: guard.subject(facts)?, per_s: guard.per.seconds() };
        let is_still =
            |of: &SubBudgetOf| matches!(of, SubBudgetOf::Guard { whole: before, .. } if **before == whole.budget);
        let of = || SubBudgetOf::Guard { guard, whole: Box::new(whole.budget.clone()) };
        Some(self.find(key, &whole.name, is_still, of))
    }

    /// What a job may cost at all.
    pub fn of_job(&self, job: i64, max_cost: i128) -> Arc<BudgetRule> {
        let of = SubBudgetOf::Job { max_cost };
        self.find(SubBudgetKey::of_job(job), "max_cost", |before| *before == of, || of.clone())
    }

    /// Of these jobs, those with a limit of their own that a call of this process is under, or was lately.
    pub fn capped(&self, jobs: impl Iterator<Item = i64>) -> HashSet<i64> {
        let sub_budgets = self.all_by_key();
        jobs.filter(|job| sub_budgets.contains_key(&SubBudgetKey::of_job(*job))).collect()
    }

    fn find(
        &self,
        key: SubBudgetKey,
        name: &str,
        is_still: impl Fn(&SubBudgetOf) -> bool,
        of: impl Fn() -> SubBudgetOf,
    ) -> Arc<BudgetRule> {
        let mut sub_budgets = self.all_by_key();
        let known = sub_budgets.get(&key);
        if let Some(rule) = known
            && rule.sub_budget.as_ref().is_some_and(|sub_budget| is_still(&sub_budget.of))
        {
            return Arc::clone(rule);
        }
        let (id, state) = match known {
            // The amount was changed; what was spent stays spent.
            Some(rule) => {
                rule.state().shed();
                (rule.sub_budget.as_ref().map(|sub_budget| Arc::clone(&sub_budget.id)), Arc::clone(&rule.state))
            }
            None => (None, Arc::default()),
        };
        let rule = Arc::new(rule(name, SubBudget { key: key.clone(), of: of(), id: id.unwrap_or_default() }, state));
        sub_budgets.insert(key, Arc::clone(&rule));
        rule
    }

    /// What is granted of these budgets' parts is granted anew: they were changed.
    pub fn shed(&self, budgets: &HashSet<i64>) {
        if budgets.is_empty() {
            return;
        }
        let sub_budgets = self.all_by_key();
        let of_them = sub_budgets.iter().filter(|(key, _)| budgets.contains(&key.budget_id));
        of_them.for_each(|(_, rule)| rule.state().shed());
    }

    pub fn is_empty(&self) -> bool {
        self.all_by_key().is_empty()
    }

    /// The ids of these, from here or from the database.
    pub async fn ids(
        &self,
        conn: &mut PgConnection,
        keys: Vec<SubBudgetKey>,
    ) -> store::Result<HashMap<SubBudgetKey, i64>> {
        let (mut known, mut unknown) = (HashMap::with_capacity(keys.len()), Vec::new());
        {
            let sub_budgets = self.all_by_key();
            for key in keys {
                match sub_budgets.get(&key).and_then(|rule| rule.sub_budget.as_ref()?.id()) {
                    Some(id) => drop(known.insert(key, id)),
                    None => unknown.push(key),
                }
            }
        }
        known.extend(store::budget::sub_budget_ids(conn, &unknown).await?);
        Ok(known)
    }

    /// The sub-budgets with a reservation or with spend. The others are dropped.
    pub fn in_use(&self) -> Vec<Arc<BudgetRule>> {
        let mut sub_budgets = self.all_by_key();
        sub_budgets.retain(|_, rule| Arc::strong_count(rule) > 1 || !rule.state().is_idle());
        sub_budgets.values().cloned().collect()
    }
}

/// Asks the database for the ids of those that have none.
pub(super) async fn name(conn: &mut PgConnection, nameless: &[SubBudget]) -> store::Result<()> {
    let keys: Vec<SubBudgetKey> = nameless.iter().map(|sub_budget| sub_budget.key.clone()).collect();
    let ids = store::budget::sub_budget_ids(conn, &keys).await?;
    for sub_budget in nameless {
        if let Some(id) = ids.get(&sub_budget.key) {
            let _ = sub_budget.id.set(*id);
        }
    }
    Ok(())
}

/// Requests wait at a sub-budget, whatever the policy of the whole budget is.
fn rule(name: &str, sub_budget: SubBudget, state: Arc<Mutex<State>>) -> BudgetRule {
    let (unit, most, window) = match &sub_budget.of {
        SubBudgetOf::Guard { guard, whole } => (whole.unit(), guard.rate(whole.cap()), guard.window()),
        SubBudgetOf::Job { max_cost } => (Unit::Usd, *max_cost, Window::Total),
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
    BudgetRule { sub_budget: Some(sub_budget), ..BudgetRule::new(0, name, budget, state) }
}
