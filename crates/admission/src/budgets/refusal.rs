//! A call that does not fit into what is left of a budget, and what its caller is told.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use domain::waits::{Obstacle, WaitReason};

use super::{SubBudgetOf, rule::BudgetRule};

/// A request of a job is retried after this even if its budget resets later: the budget may be raised, or money
/// reserved by a dead replica may be returned.
const OVER_BUDGET_BACKOFF: Duration = Duration::from_secs(30);
/// The back-off of a job that is about to be paused.
const PAUSE_BACKOFF: Duration = Duration::from_millis(50);
/// Money that is reserved or granted elsewhere may be returned within a moment.
const GRANT_RETRY_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// More than can be returned before the window resets.
    Short,
    /// The amount is reserved by calls in flight or granted to other replicas.
    InUse,
    /// A guard has blocked the job for a sustained time: see [`super::sustained_shortage`].
    SustainedShortage,
    /// The local view is stale: a grant is on its way, or Postgres cannot be reached.
    Unasked,
    /// The budget is new, and its earlier spend is still being counted.
    Counting,
    /// So little is left that no new job is taken.
    UsedUp,
    /// The model has no price, so the worst case is unknown.
    Unpriced,
}

#[derive(Debug, Clone)]
pub struct Refusal {
    pub rule: Arc<BudgetRule>,
    /// The most that the call can cost.
    pub asked: i128,
    pub left: i128,
    /// When it refused.
    pub at: DateTime<Utc>,
    pub resets_at: Option<DateTime<Utc>>,
    pub why: Why,
    /// The call will not wait again.
    pub is_last_try: bool,
}

impl Refusal {
    /// Whether a short wait cannot help.
    pub fn is_final(&self) -> bool {
        self.is_last_try || self.is_for_long()
    }

    /// Exempts the job from the sub-budget that refused it, until then.
    pub fn lift(&self, job: i64, until: DateTime<Utc>) {
        self.rule.state().lift(job, until);
    }

    pub(super) fn is_for_long(&self) -> bool {
        matches!(self.why, Why::Short | Why::UsedUp | Why::Unpriced)
    }

    /// `None`: never, by itself.
    pub fn retry_after(&self) -> Option<Duration> {
        if self.is_for_long() { (self.resets_at? - self.at).to_std().ok() } else { Some(GRANT_RETRY_AFTER) }
    }

    /// The back-off of a flow that was refused for good.
    pub fn pause(&self) -> Duration {
        if self.rule.sub_budget.is_some() {
            // By then the job is paused, or is admitted because it was approved.
            return PAUSE_BACKOFF;
        }
        self.retry_after().unwrap_or(OVER_BUDGET_BACKOFF).min(OVER_BUDGET_BACKOFF)
    }

    pub fn obstacle(&self) -> Obstacle {
        let reason = match self.rule.sub_budget.as_ref().map(|sub_budget| &sub_budget.of) {
            Some(SubBudgetOf::Guard { .. }) => WaitReason::Guard,
            Some(SubBudgetOf::Job { .. }) => WaitReason::MaxCost,
            None => WaitReason::Budget,
        };
        Obstacle::new(reason, self.to_string())
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rule, asked, left, resets_at, why, .. } = self;
        let said = |amount: i128| rule.unit.said(amount);
        match rule.sub_budget.as_ref().map(|sub_budget| &sub_budget.of) {
            None => write!(f, "budget {}: ", rule.name)?,
            Some(SubBudgetOf::Guard { guard, .. }) => {
                let (rate, per, by) = (said(rule.budget.cap()), guard.per, guard.by.as_str());
                let name = &rule.name;
                return write!(
                    f,
                    "budget {name}: its guard lets a {by} spend {rate} in {per}; this call may cost {}",
                    said(*asked)
                );
            }
            Some(SubBudgetOf::Job { .. }) => {
                return write!(f, "its max_cost is {}; this call may cost {}", said(rule.budget.cap()), said(*asked));
            }
        }
        match why {
            Why::Unpriced => {
                write!(f, "the model has no price, so nothing can be reserved; the operator can declare one")?;
            }
            Why::Counting => write!(f, "what was spent before it was declared is being counted")?,
            Why::Unasked => write!(f, "its part of it is on the way; this call may cost {}", said(*asked))?,
            Why::InUse | Why::SustainedShortage => {
                write!(f, "what is left is held for others; this call may cost {}", said(*asked))?;
            }
            Why::UsedUp => write!(f, "{} of {} is left", said(*left), said(rule.budget.cap()))?,
            Why::Short => {
                let limit = said(rule.budget.cap());
                write!(f, "{} of {limit} is left, and this call may cost {}", said(*left), said(*asked))?;
            }
        }
        match resets_at {
            Some(at) if matches!(why, Why::Short | Why::UsedUp) => {
                write!(f, "; it resets at {}", at.format("%Y-%m-%dT%H:%M:%SZ"))
            }
            _ => Ok(()),
        }
    }
}
