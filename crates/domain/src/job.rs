//! A job: what a user submits. Its state says what may happen to its requests; its counts say what did.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    attempt::words, dependency::After, ids::JobId, lane::Lane, money::Total, pause::Hold, progress::ProgressRate,
    tags::Tags, waits::Waits,
};

words! {
    /// Terminal states never change.
    JobState {
        /// Lines are still coming in; nothing of it can run.
        Uploading = "uploading",
        /// Accepted; requests run as lanes and limits allow.
        Queued = "queued",
        /// At least one request was claimed.
        Running = "running",
        Paused = "paused",
        /// No new call starts; calls under way are being settled.
        Cancelling = "cancelling",
        Cancelled = "cancelled",
        /// Every request has its final result, be it success or failure.
        Completed = "completed",
        /// Its deadline passed with requests left.
        Expired = "expired",
    }
}

impl JobState {
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Cancelled | Self::Completed | Self::Expired)
    }
}

/// accepted = succeeded + failed + cancelled + expired + pending; each side is counted, none is subtracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    pub accepted: i64,
    pub succeeded: i64,
    pub failed: i64,
    pub cancelled: i64,
    pub expired: i64,
    pub pending: i64,
}

/// A job as the API shows it and the CLI reads it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    pub id: JobId,
    pub state: JobState,
    pub team: String,
    pub lane: Lane,
    pub name: Option<String>,
    pub tags: Tags,
    pub priority: i16,
    pub counts: Counts,
    /// Requests under a lease now; part of `counts.pending`.
    pub in_flight: i64,
    /// Charged so far, in USD. Attempts without a price are counted in `unpriced` instead.
    pub cost_usd: Total,
    /// The most that it may cost; null: no maximum was set.
    #[serde(default)]
    pub max_cost: Option<Total>,
    pub unpriced: i64,
    /// What holds it up, in words; null when it is only waiting for its turn.
    pub waiting_reason: Option<String>,
    /// Why its next request waits; null when none does.
    #[serde(default)]
    pub waits: Option<Waits>,
    /// What keeps it paused; empty when nothing does.
    #[serde(default)]
    pub paused_by: Vec<Hold>,
    /// None of it once it has ended.
    #[serde(flatten)]
    pub pace: ProgressRate,
    pub retry_of: Option<JobId>,
    /// Nothing of it runs before that job has ended.
    pub after: Option<After>,
    pub created_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    pub deadline_at: Option<DateTime<Utc>>,
    /// When its bodies and results will be purged; set when it ends.
    pub purge_at: Option<DateTime<Utc>>,
}

/// What changes of a job while it runs: an event of its stream. Each of it is rendered as in [`Job`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Progress {
    pub state: JobState,
    pub counts: Counts,
    pub in_flight: i64,
    pub cost_usd: Total,
    pub unpriced: i64,
    pub waiting_reason: Option<String>,
    #[serde(default)]
    pub waits: Option<Waits>,
    #[serde(flatten)]
    pub pace: ProgressRate,
}

impl From<&Job> for Progress {
    fn from(job: &Job) -> Self {
        Self {
            state: job.state,
            counts: job.counts,
            in_flight: job.in_flight,
            cost_usd: job.cost_usd,
            unpriced: job.unpriced,
            waiting_reason: job.waiting_reason.clone(),
            waits: job.waits.clone(),
            pace: job.pace,
        }
    }
}

/// The parameters of a submission. In JSON the object of a first line `{"job":{…}}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobParams {
    pub name: Option<String>,
    pub lane: Option<Lane>,
    pub tags: Tags,
    /// −100 to 100 among the team's own jobs in the lane; higher is sooner.
    pub priority: Option<i16>,
    pub deadline: Option<DateTime<Utc>>,
    pub start_at: Option<DateTime<Utc>>,
    /// Nothing of it runs before that job of the same team has ended.
    pub after: Option<After>,
    /// Failed tries of one request, by errors of its own, before it is dead-lettered.
    pub max_attempts: Option<i16>,
    /// The most that the job may cost, in USD as decimal text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cost: Option<Total>,
    /// Told when the job ends, by a signed POST.
    pub webhook: Option<String>,
}

impl JobParams {
    /// These, with `over` winning where both say something.
    pub fn overridden_by(self, over: Self) -> Self {
        Self {
            name: over.name.or(self.name),
            lane: over.lane.or(self.lane),
            tags: self.tags.overridden_by(over.tags),
            priority: over.priority.or(self.priority),
            deadline: over.deadline.or(self.deadline),
            start_at: over.start_at.or(self.start_at),
            after: over.after.or(self.after),
            max_attempts: over.max_attempts.or(self.max_attempts),
            max_cost: over.max_cost.or(self.max_cost),
            webhook: over.webhook.or(self.webhook),
        }
    }
}
