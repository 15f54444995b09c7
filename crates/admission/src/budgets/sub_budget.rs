//! Sub-budgets: the amount that a guard allows one job, feature or team over a rolling window, and the `max_cost` of a
//! job. A sub-budget is a rule like any other: a call reserves in it too, so it holds across all replicas. It exists as
//! long as it is used.

use std::sync::{Arc, OnceLock};

use domain::{Budget, budget::Guard};
use store::budget::SubBudgetKey;

/// Identifies the sub-budget that a rule stands for.
#[derive(Debug, Clone)]
pub struct SubBudget {
    pub key: SubBudgetKey,
    pub of: SubBudgetOf,
    /// Given by the database.
    pub(super) id: Arc<OnceLock<i64>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubBudgetOf {
    /// A guard, with the budget that it guards as declared.
    Guard { guard: Guard, whole: Box<Budget> },
    /// The `max_cost` of a job.
    Job { max_cost: i128 },
}

impl SubBudget {
    pub fn id(&self) -> Option<i64> {
        self.id.get().copied()
    }

    /// Without a database that gives it.
    #[cfg(test)]
    pub fn known_as(&self, id: i64) {
        let _ = self.id.set(id);
    }
}
