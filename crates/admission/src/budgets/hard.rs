//! Hard budgets, which no call may exceed, and their limits.

use std::sync::Arc;

use domain::budget::{Facts, Unit};

use super::Budgets;

impl Budgets {
    /// The limits of all hard budgets that apply to a call with these facts. A call that may cost more than one of them
    /// could never start, in any window.
    pub fn hard_caps(&self, facts: &Facts<'_>) -> Vec<(Unit, i128, Arc<str>)> {
        let index = self.index();
        let hard = index.of(facts).filter(|rule| !rule.budget.lets_through());
        hard.map(|rule| (rule.unit, rule.budget.cap(), Arc::clone(&rule.name))).collect()
    }
}
