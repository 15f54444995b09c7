//! An index of the budgets in force by the facts of a call.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::{Arc, PoisonError},
};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use domain::{
    LedgerRow, Tags,
    budget::{Dimension, Facts, Unit, Window},
};
use store::budget::{BudgetRow, Spend, SubBudgetKey};

use super::rule::BudgetRule;

#[derive(Debug, Default)]
pub struct BudgetIndex {
    pub(super) revision: i64,
    pub(super) rules: Vec<Arc<BudgetRule>>,
    /// Each budget under one dimension of its scope: the one that the fewest calls share.
    by_dimension: HashMap<u64, Vec<Arc<BudgetRule>>>,
    /// Those of everything.
    everywhere: Vec<Arc<BudgetRule>>,
    hasher: RandomState,
}

impl BudgetIndex {
    /// Budgets that stay keep their state.
    pub(super) fn new(revision: i64, rows: Vec<BudgetRow>, before: &Self) -> Self {
        let known: HashMap<i64, &Arc<BudgetRule>> = before.rules.iter().map(|rule| (rule.id, rule)).collect();
        let mut index = Self { revision, ..Self::default() };
        for row in rows {
            let before = known.get(&row.budget_id);
            let state = before.map(|rule| Arc::clone(&rule.state)).unwrap_or_default();
            if before.is_some_and(|rule| rule.budget != row.budget) {
                state.lock().unwrap_or_else(PoisonError::into_inner).shed();
            }
            let rule = Arc::new(BudgetRule::new(row.budget_id, &row.name, row.budget, state));
            match rule.budget.scope.dimensions().min() {
                Some(rarest) => {
                    index.by_dimension.entry(index.hasher.hash_one(rarest)).or_default().push(Arc::clone(&rule));
                }
                None => index.everywhere.push(Arc::clone(&rule)),
            }
            index.rules.push(rule);
        }
        index
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// All budgets that a call is under.
    pub(super) fn of<'a>(&'a self, facts: &'a Facts<'a>) -> impl Iterator<Item = &'a Arc<BudgetRule>> {
        let found = move |dimension: Dimension<'a>| self.by_dimension.get(&self.hasher.hash_one(dimension));
        let dimensions = (!self.by_dimension.is_empty()).then(|| facts.dimensions()).into_iter().flatten();
        let rules = dimensions.filter_map(found).flatten();
        self.everywhere.iter().chain(rules.filter(|rule| rule.budget.scope.covers(facts)))
    }

    /// What ledger rows add to the budgets that they are under.
    pub fn spends<'r>(&self, rows: impl Iterator<Item = &'r LedgerRow>) -> Spends {
        let mut spends = Spends::default();
        if self.is_empty() {
            return spends;
        }
        for row in rows {
            let tags = row.tags_json.as_deref().and_then(|tags| serde_json::from_str::<Tags>(tags).ok());
            let tags = tags.unwrap_or_default();
            let facts = Facts::of_row(row, &tags);
            for rule in self.of(&facts) {
                let cell = rule.span(row.reserved_at).start;
                let charged = charged(rule.unit, row).unwrap_or(0);
                if charged == 0 {
                    continue;
                }
                let is_correction = row.corrects_attempt_id.is_some();
                spends.of_budgets.entry((rule.id, cell, row.worker_id)).or_default().add(charged, is_correction);
                if let Some((key, cell)) = rule.sub_budget_of(&facts, row.reserved_at) {
                    spends.of_sub_budgets.entry((key, cell, row.worker_id)).or_default().add(charged, is_correction);
                }
            }
        }
        spends
    }
}

/// Sums, by cell and worker.
#[derive(Debug, Default)]
pub struct Spends {
    of_budgets: BTreeMap<(i64, DateTime<Utc>, i64), Sum>,
    of_sub_budgets: BTreeMap<(SubBudgetKey, DateTime<Utc>, i64), Sum>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    amount: i128,
    /// Of it, what comes of rows that correct others.
    corrected: i128,
}

impl Sum {
    fn add(&mut self, charged: i128, is_correction: bool) {
        self.amount += charged;
        if is_correction {
            self.corrected += charged;
        }
    }
}

impl Spends {
    /// Of jobs that have a limit of their own.
    pub fn add_capped<'r>(&mut self, rows: impl Iterator<Item = &'r LedgerRow>, capped: &HashSet<i64>) {
        for row in rows {
            let Some(job) = row.job_id.filter(|job| capped.contains(job)) else { continue };
            let charged = charged(Unit::Usd, row).unwrap_or(0);
            if charged != 0 {
                let cell = Window::Total.span(Tz::UTC, row.reserved_at).start;
                let sum = self.of_sub_budgets.entry((SubBudgetKey::of_job(job), cell, row.worker_id)).or_default();
                sum.add(charged, row.corrects_attempt_id.is_some());
            }
        }
    }

    /// The parts that are among them, each once.
    pub fn sub_budgets(&self) -> Vec<SubBudgetKey> {
        let mut keys: Vec<SubBudgetKey> = self.of_sub_budgets.keys().map(|(key, ..)| key.clone()).collect();
        keys.dedup();
        keys
    }

    /// As the database writes them. `ids`: of the parts.
    pub fn with_ids(self, ids: &HashMap<SubBudgetKey, i64>) -> Vec<Spend> {
        let of_sub_budgets = self.of_sub_budgets.into_iter().filter_map(|((key, cell, worker), sum)| {
            let id = ids.get(&key)?;
            Some(((*id, cell, worker), sum))
        });
        let spend = |((budget_id, cell, worker_id), Sum { amount, corrected })| Spend {
            budget_id,
            cell,
            worker_id,
            amount,
            corrected,
        };
        self.of_budgets.into_iter().chain(of_sub_budgets).map(spend).collect()
    }
}

/// What a row says that its call used; `None`: it may have used something, and nobody knows what.
pub(super) fn charged(unit: Unit, row: &LedgerRow) -> Option<i128> {
    match unit {
        Unit::Usd => row.contracted_cost.map(i128::from),
        Unit::Tokens if row.prompt_total.is_none() && row.billable => None,
        Unit::Tokens => {
            let counts = [row.prompt_total, row.output_text, row.output_reasoning, row.output_audio];
            Some(counts.into_iter().flatten().map(i128::from).sum())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn book(scopes: &[serde_json::Value]) -> BudgetIndex {
        let row = |(n, scope): (usize, &serde_json::Value)| BudgetRow {
            budget_id: n as i64,
            name: n.to_string(),
            budget: serde_json::from_value(json!({"scope": scope, "limit_usd": "1", "window": "day"})).unwrap(),
            is_file_managed: false,
            is_counted: true,
        };
        BudgetIndex::new(1, scopes.iter().enumerate().map(row).collect(), &BudgetIndex::default())
    }

    #[test]
    fn a_call_is_under_all_budgets_that_cover_it_each_once() {
        let index = book(&[
            json!({}),
            json!({"team": "a"}),
            json!({"team": "a", "feature": "chat"}),
            json!({"team": "b", "feature": "chat"}),
            json!({"tags": {"sprint": "1"}, "provider": "p"}),
            json!({"deployment": "e"}),
            json!({"environment": "unattributed"}),
        ]);
        let tags: Tags = "feature=chat,sprint=1".parse().unwrap();
        let facts = Facts { team: "a", key: None, job: Some(1), deployment: "d", provider: "p", tags: &tags };
        let mut ids: Vec<i64> = index.of(&facts).map(|rule| rule.id).collect();
        ids.sort_unstable();
        assert_eq!(ids, [0, 1, 2, 4, 6]);
    }
}
