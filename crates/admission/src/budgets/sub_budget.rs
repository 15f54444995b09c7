//! Parts: what a budget's guard lets one job, feature or team spend in a time that rolls, and what a job may cost at all. A part is a
//! rule like any other: a call holds what it can cost of it too, so nobody spends more, through however many replicas. Each is there
//! as long as it is used.

use std::sync::{Arc, OnceLock};

use domain::{Budget, budget::Guard};
use store::budget::SubBudgetKey;

/// RowsOf part a rule is.
#[derive(Debug, Clone)]
pub struct SubBudget {
    pub key: SubBudgetKey,
    pub of: SubBudgetOf,
    /// Given by the database.
    pub(super) id: Arc<OnceLock<i64>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubBudgetOf {
    /// Of a guard, whose budget is declared like this.
    Guard { guard: Guard, whole: Box<Budget> },
    /// Of a job, which may cost so much.
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
