//! A job's dead letters by reason, and the choice of those to be tried again. Both use the names that result lines use.

use serde::{Deserialize, Serialize};

/// `error.code` of result lines that were never run, because the job was cancelled or its deadline passed.
pub const CANCELLED: &str = "batch_cancelled";
pub const EXPIRED: &str = "batch_expired";

/// Requests that failed alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureGroup {
    /// `error.code` of their result lines.
    pub error: String,
    pub status: Option<i32>,
    pub deployment: Option<String>,
    pub count: i64,
    /// The first of them with its message; `None` for requests that never ran.
    pub line: Option<i32>,
    pub message: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// The largest first.
    pub groups: Vec<FailureGroup>,
    /// All that failed.
    pub failed: i64,
    /// How many failures were examined; the groups count these.
    pub examined: i64,
}

/// Which requests of a job that ended are tried again. Without anything said: those that failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryFilter {
    /// Only those with one of these errors; [`CANCELLED`] and [`EXPIRED`] are errors too.
    pub errors: Vec<String>,
    /// Only failures with one of these HTTP statuses.
    pub statuses: Vec<i32>,
    /// Only failures at one of these deployments.
    pub deployments: Vec<String>,
    /// Those that were cancelled or expired too.
    pub unfinished: bool,
}

impl RetryFilter {
    /// Whether requests that were cancelled or expired are wanted.
    pub fn takes_unfinished(&self) -> bool {
        self.unfinished || self.errors.iter().any(|error| is_unfinished(error))
    }

    /// The errors of requests that ran and failed; `None`: any.
    pub fn failed_errors(&self) -> Option<Vec<String>> {
        if self.errors.is_empty() {
            return None;
        }
        Some(self.errors.iter().filter(|error| !is_unfinished(error)).cloned().collect())
    }
}

fn is_unfinished(error: &str) -> bool {
    [CANCELLED, EXPIRED].contains(&error)
}
