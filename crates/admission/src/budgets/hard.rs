//! The budgets that a call cannot exceed, and how much each has in all.

use std::sync::Arc;

use domain::budget::{Facts, Unit};

use super::Budgets;

impl Budgets {
    /// Of those that a call with these facts is under. A call that may cost more than a whole budget could never start, in any of
    /// its windows.
    pub fn hard_caps(&self, facts: &Facts<'_>) -> Vec<(Unit, i128, Arc<str>)> {
        let index = self.index();
        let hard = index.of(facts).filter(|rule| !rule.budget.lets_through());
        hard.map(|rule| (rule.unit, rule.budget.cap(), Arc::clone(&rule.name))).collect()
    }
}
