//! What keeps a job paused. It goes on when nothing does any more.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::attempt::words;

words! {
    PauseReason {
        /// It is expected to cost more than may begin without somebody's word.
        Approval = "approval",
        /// A budget's guard: it spent faster than it may.
        Guard = "guard",
        /// It may cost no more: see its `max_cost`.
        MaxCost = "max_cost",
        /// Somebody paused it.
        Paused = "paused",
    }
}

impl PauseReason {
    /// Whether somebody with the role can let it go on.
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
