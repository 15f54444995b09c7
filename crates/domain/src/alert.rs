//! What people are told of without asking.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::attempt::words;

words! {
    AlertKind {
        /// A budget reached a threshold, or will be used up before its window ends.
        Budget = "budget",
        /// A budget's guard paused a job.
        BurnRate = "burn_rate",
        /// A deployment has failed for a while.
        ProviderDown = "provider_down",
        /// Requests of a job failed for good.
        DeadLetters = "dead_letters",
        /// The ledger is not in the lake yet, though it should be.
        LakeBehind = "lake_behind",
        /// A deployment that is routed to has no price.
        Unpriced = "unpriced",
        /// An API key ends within days.
        KeyExpires = "key_expires",
        /// A provider refuses a deployment's calls because its account has no quota or no money left.
        ProviderQuota = "provider_quota",
        /// A provider reported a usage that its call cannot have had.
        ImplausibleUsage = "implausible_usage",
        /// Asked for, to see whether it arrives.
        Test = "test",
    }
}

/// As the API shows it and the command line reads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    pub id: Uuid,
    pub kind: AlertKind,
    /// The budget, deployment, job, … by its name.
    pub object: String,
    pub team: Option<String>,
    /// Percent of a budget. `None` of one: it will be used up before its window ends.
    pub threshold: Option<i32>,
    /// Since when it holds: of a budget, the start of its window.
    pub since: DateTime<Utc>,
    pub raised_at: DateTime<Utc>,
    #[serde(flatten)]
    pub said: Said,
    pub deliveries: Vec<Delivery>,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    pub title: String,
    pub text: String,
    /// Figures, each with its name.
    pub fields: Vec<Field>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    pub name: String,
    pub value: String,
}

impl Field {
    pub fn new(name: &str, value: impl Into<String>) -> Self {
        Self { name: name.to_owned(), value: value.into() }
    }
}

words! {
    DeliveryState {
        /// Not tried yet, or to be tried again.
        Waiting = "waiting",
        Delivered = "delivered",
        /// Tried for days, or refused for good.
        GivenUp = "given_up",
    }
}

/// An alert's way to one receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    pub receiver: String,
    pub state: DeliveryState,
    pub tries: i32,
    /// Why the last try failed.
    pub last_error: Option<String>,
    /// `None` once nothing more is tried.
    pub next_try_at: Option<DateTime<Utc>>,
    pub delivered_at: Option<DateTime<Utc>>,
}
