//! What was done to jobs and to what operators declare, and by whom.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{JobId, Lane, ScheduleId, attempt::words, ids::AttemptId};

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
        /// It goes on, or begins, though it costs much.
        Approve = "approve",
        /// Priority, deadline, or what it comes after.
        Change = "change",
        /// The job it came after has ended.
        Begin = "begin",
        /// Its deadline passed; what was left of it ended.
        Expire = "expire",
        Delete = "delete",
        /// A lane, a limit or a budget was declared or changed.
        Set = "set",
        Remove = "remove",
        Create = "create",
        /// A key, for good.
        Revoke = "revoke",
        /// A team: its keys are refused.
        Disable = "disable",
        /// A deployment, until some time.
        Cool = "cool",
        /// A deployment that was taken out, or had failed.
        Release = "release",
        /// A configuration file became the active configuration.
        Apply = "apply",
        /// Keys from one address were refused; counted, once a minute.
        SignInFailed = "sign_in_failed",
        /// A charge of the ledger was set right.
        Correct = "correct",
        /// A team's secret was replaced by a new one.
        Rotate = "rotate",
        /// A job's webhook was given up: its receiver cannot be reached, or refuses it for good.
        GiveUp = "give_up",
    }
}

/// What something was done to, as people write it: `job_…`, `lane:NAME`, `limit:SCOPE`, `budget:NAME`, `key:ID`,
/// `team:NAME`, `deployment:NAME`, `schedule:sch_…`, `attempt:ID`, `address:IP`, `config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    Job(JobId),
    Lane(Lane),
    /// A limit's scope, such as `lane:bulk:team:search`; its kind is a detail.
    Limit(String),
    /// By name.
    Budget(String),
    Key(String),
    Team(String),
    Deployment(String),
    Schedule(ScheduleId),
    /// Where requests come from: an IPv4 address, the /64 of an IPv6 address, or `*` for all those that are not listed.
    Address(String),
    /// A provider call, by the id of its ledger row.
    Attempt(AttemptId),
    /// What the file declares.
    Config,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no object: job_…, lane:NAME, limit:SCOPE, budget:NAME, key:ID, team:NAME, deployment:NAME, schedule:sch_…, \
         attempt:ID, address:IP or config"
)]
pub struct BadObject(String);

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(id) => id.fmt(f),
            Self::Lane(lane) => write!(f, "lane:{lane}"),
            Self::Limit(scope) => write!(f, "limit:{scope}"),
            Self::Budget(name) => write!(f, "budget:{name}"),
            Self::Key(id) => write!(f, "key:{id}"),
            Self::Team(name) => write!(f, "team:{name}"),
            Self::Deployment(name) => write!(f, "deployment:{name}"),
            Self::Schedule(id) => write!(f, "schedule:{id}"),
            Self::Address(address) => write!(f, "address:{address}"),
            Self::Attempt(id) => write!(f, "attempt:{id}"),
            Self::Config => f.write_str("config"),
        }
    }
}

impl FromStr for Object {
    type Err = BadObject;

    fn from_str(text: &str) -> Result<Self, BadObject> {
        let bad = || BadObject(text.chars().take(64).collect());
        let Some((what, rest)) = text.split_once(':').filter(|(_, rest)| !rest.is_empty()) else {
            return match text {
                "config" => Ok(Self::Config),
                _ => text.parse().map(Self::Job).map_err(|_| bad()),
            };
        };
        match what {
            "lane" => rest.parse().map(Self::Lane).map_err(|_| bad()),
            "limit" => Ok(Self::Limit(rest.to_owned())),
            "budget" => Ok(Self::Budget(rest.to_owned())),
            "key" => Ok(Self::Key(rest.to_owned())),
            "team" => Ok(Self::Team(rest.to_owned())),
            "deployment" => Ok(Self::Deployment(rest.to_owned())),
            "address" => Ok(Self::Address(rest.to_owned())),
            "schedule" => rest.parse().map(Self::Schedule).map_err(|_| bad()),
            "attempt" => rest.parse().map(Self::Attempt).map_err(|_| bad()),
            _ => Err(bad()),
        }
    }
}

/// One line of the audit. The details hold no prompt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditLine {
    pub at: DateTime<Utc>,
    pub action: String,
    /// See [`Object`].
    pub object: String,
    /// The public part of the key; `None`: Tollway itself.
    pub key_id: Option<String>,
    /// The key's team.
    pub team: Option<String>,
    pub details: serde_json::Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_as_it_is_shown() {
        let objects = ["job_0000000000001", "lane:bulk", "limit:lane:bulk:team:a", "key:abcdefghijkl", "budget:b"];
        for text in objects.into_iter().chain([
            "team:search",
            "deployment:d",
            "schedule:sch_0000000000001",
            "address:2001:db8::/64",
            "attempt:01939d8e-0000-7000-8000-000000000001",
            "config",
        ]) {
            assert_eq!(text.parse::<Object>().unwrap().to_string(), text);
        }
        for text in ["", "bulk", "lane:", "lane:No Lane", "lanes:bulk", "job_1", "schedule:job_0000000000001"] {
            assert!(text.parse::<Object>().is_err(), "{text}");
        }
    }
}
