//! Reserves in one budget, or refuses.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use domain::budget::Policy;

use super::{
    Refusal, Urgency, Why,
    rule::{BudgetRule, CellReservation, State},
};

/// A view of the whole budget that is older than this refuses no call for good.
const VIEW_MAX_AGE: Duration = Duration::from_millis(600);

impl BudgetRule {
    /// Reserves an amount for a call that begins now; `None`: the call has no price.
    pub(super) fn take(
        self: &Arc<Self>,
        amount: Option<i128>,
        at: DateTime<Utc>,
        urgency: Urgency,
    ) -> Result<CellReservation, Refusal> {
        let Some(amount) = amount else {
            return match self.budget.lets_through() {
                true => Ok(self.force(0, at)),
                false => Err(self.refusal(0, at, Why::Unpriced, &self.state())),
            };
        };
        if self.policy == Policy::Alert || self.budget.soft && urgency == Urgency::AllowOverdraft {
            return Ok(self.force(amount, at));
        }
        let mut state = self.state();
        let epoch = state.epoch;
        let cell = state.cell(self, at);
        if cell.account.take(amount) {
            let cell = cell.span.start;
            state.used_at = Some(Instant::now());
            state.recent += amount;
            state.kept = (state.kept - amount).max(0);
            state.last = amount;
            return Ok(CellReservation { rule: Arc::clone(self), cell, amount, epoch });
        }
        state.was_refused = true;
        let why = match state.view.filter(|view| view.at.elapsed() < VIEW_MAX_AGE) {
            Some(view) if view.is_open && amount > view.possible => Why::Short,
            Some(view) if !view.is_open => Why::Counting,
            Some(_) => Why::InUse,
            None => Why::Unasked,
        };
        let refusal = self.refusal(amount, at, why, &state);
        Err(Refusal { is_last_try: urgency != Urgency::CanWait, ..refusal })
    }

    /// Reserves it whatever is left.
    pub(super) fn force(self: &Arc<Self>, amount: i128, at: DateTime<Utc>) -> CellReservation {
        let mut state = self.state();
        let epoch = state.epoch;
        let cell = state.cell(self, at);
        cell.account.force(amount);
        let cell = cell.span.start;
        state.used_at = Some(Instant::now());
        state.recent += amount;
        CellReservation { rule: Arc::clone(self), cell, amount, epoch }
    }

    /// Reserves in a sub-budget, which refuses only jobs that are not approved.
    pub(super) fn take_sub_budget(
        self: &Arc<Self>,
        amount: Option<i128>,
        at: DateTime<Utc>,
        job: Option<i64>,
        urgency: Urgency,
    ) -> Result<CellReservation, Refusal> {
        let is_lifted = |job| self.state().lifted.get(&job).is_some_and(|until| at < *until);
        match (amount, job) {
            (Some(amount), Some(job)) if !is_lifted(job) => self.take(Some(amount), at, urgency),
            // What has no price does not burn anything that could be seen.
            _ => Ok(self.force(amount.unwrap_or(0), at)),
        }
    }

    fn refusal(self: &Arc<Self>, asked: i128, at: DateTime<Utc>, why: Why, state: &State) -> Refusal {
        Refusal {
            rule: Arc::clone(self),
            asked,
            left: state.view.map_or(0, |view| view.left.max(0)),
            at,
            resets_at: self.budget.window.resets_at(self.budget.time_zone, at),
            why,
            is_last_try: false,
        }
    }
}
