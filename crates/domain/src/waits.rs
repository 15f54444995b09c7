//! Why something waits: a word that programs match, and more about it for people.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::attempt::words;

words! {
    WaitReason {
        /// All slots that its lane may use are taken; it is served in its turn.
        NoSlot = "no_slot",
        /// No process with the role worker is alive.
        NoWorker = "no_worker",
        TeamLimit = "team_limit",
        /// Of the team inside the lane.
        LaneLimit = "lane_limit",
        KeyLimit = "key_limit",
        DeploymentLimit = "deployment_limit",
        /// It does not fit into what is left of a budget.
        Budget = "budget",
        /// It burns a budget faster than that budget's guard lets it.
        Guard = "guard",
        /// It is expected to cost so much that somebody has to approve it.
        Approval = "approval",
        /// It may cost no more.
        MaxCost = "max_cost",
        /// Throttled or overloaded; asked again after a pause.
        ProviderCooling = "provider_cooling",
        /// It cannot be reached, refuses the credential, or fails every call.
        ProviderDown = "provider_down",
        /// The account at the provider has no quota or credit left: somebody has to pay.
        ProviderQuota = "provider_quota",
        /// The provider does not know the deployment's model: the operator has to correct it.
        ModelUnknown = "model_unknown",
        NoRoute = "no_route",
        Paused = "paused",
        /// Another job ends first.
        After = "after",
        /// Its start is still to come.
        Scheduled = "scheduled",
        /// All that is left of it failed before and is tried again later.
        Retry = "retry",
        Other = "other",
    }
}

/// The obstacle that blocked a flow at the last claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    pub reason: WaitReason,
    pub detail: String,
}

impl Obstacle {
    pub fn new(reason: WaitReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    /// As the database keeps it: the word, a space, the detail.
    pub fn stored(&self) -> String {
        format!("{} {}", self.reason.as_str(), self.detail)
    }
}

/// Why the next request waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waits {
    pub reason: WaitReason,
    pub detail: Option<String>,
    /// It is looked at again then, and not before.
    pub until: Option<DateTime<Utc>>,
}

impl Waits {
    /// Of a stored word; one that this version does not know is kept as detail.
    pub fn of_stored(reason: &str, detail: Option<String>, until: Option<DateTime<Utc>>) -> Self {
        match WaitReason::from_word(reason) {
            Some(reason) => Self { reason, detail, until },
            None => {
                let detail = [Some(reason), detail.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ");
                Self { reason: WaitReason::Other, detail: Some(detail), until }
            }
        }
    }

    /// Whether something other than its turn is in the way.
    pub fn is_blocked(&self) -> bool {
        self.reason != WaitReason::NoSlot
    }

    pub fn text(&self) -> String {
        if let Some(detail) = &self.detail {
            return detail.clone();
        }
        match self.reason {
            WaitReason::NoSlot => "a free slot",
            WaitReason::NoWorker => "a worker: no process with that role is alive",
            WaitReason::Retry => "its next try",
            WaitReason::After => "the job that it comes after",
            other => other.as_str(),
        }
        .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_word_comes_back() {
        let known = Waits::of_stored("team_limit", Some("limit slots of team:a".into()), None);
        assert_eq!((known.reason, known.text().as_str()), (WaitReason::TeamLimit, "limit slots of team:a"));
        let newer = Waits::of_stored("moon", Some("is full".into()), None);
        assert_eq!((newer.reason, newer.text().as_str()), (WaitReason::Other, "moon is full"));
    }
}
