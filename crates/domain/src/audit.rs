//! What was done to a job, and by whom.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::attempt::words;

words! {
    Action {
        Submit = "submit",
        /// It was made of another job's requests.
        Retry = "retry",
        /// Some of its requests were made a new job.
        Retried = "retried",
        Pause = "pause",
        Resume = "resume",
        Cancel = "cancel",
        /// Priority, deadline, or what it comes after.
        Change = "change",
        /// The job it came after has ended.
        Begin = "begin",
        /// Its deadline passed; what was left of it ended.
        Expire = "expire",
        Delete = "delete",
    }
}

/// One line of a job's history. The details hold no prompt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditLine {
    pub at: DateTime<Utc>,
    pub action: String,
    /// The public part of the key; `None`: Tollway itself.
    pub key_id: Option<String>,
    /// The key's team.
    pub team: Option<String>,
    pub details: serde_json::Value,
}
