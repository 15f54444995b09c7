//! Why a job is paused. It resumes when no reason is left.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::attempt::words;

words! {
    PauseReason {
        /// Its expected cost needs approval.
        Approval = "approval",
        /// A budget's guard: it spent faster than allowed.
        Guard = "guard",
        /// It reached its `max_cost`.
        MaxCost = "max_cost",
        /// Paused by hand.
        Paused = "paused",
    }
}

impl PauseReason {
    /// Whether an approval lifts it.
    pub fn is_approvable(self) -> bool {
        matches!(self, Self::Approval | Self::Guard)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub by: PauseReason,
    /// Figures, for people.
    pub detail: Option<String>,
    pub since: DateTime<Utc>,
}
