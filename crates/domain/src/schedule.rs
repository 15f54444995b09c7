//! A job that is submitted again and again.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::{BadId, JobId};

/// `sch_` and the characters of a job's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScheduleId(pub i64);

impl fmt::Display for ScheduleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sch_{}", JobId(self.0).to_string().trim_start_matches("job_"))
    }
}

impl FromStr for ScheduleId {
    type Err = BadId;

    fn from_str(given: &str) -> Result<Self, BadId> {
        let text = given.strip_prefix("sch_").unwrap_or_default();
        let id: Result<JobId, BadId> = format!("job_{text}").parse();
        id.map(|id| Self(id.0)).map_err(|_| BadId::new(given, "sch_<13 characters>"))
    }
}

impl Serialize for ScheduleId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ScheduleId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// As the API shows it and the CLI reads it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Schedule {
    pub id: ScheduleId,
    pub name: String,
    pub team: String,
    /// The public part of the key in whose name its jobs are submitted.
    pub key_id: String,
    pub cron: String,
    pub time_zone: String,
    pub skip_if_running: bool,
    /// Of each of its jobs.
    pub requests: i64,
    /// `None`: it will not fire again.
    pub next_at: Option<DateTime<Utc>>,
    pub last_tick_at: Option<DateTime<Utc>>,
    pub last_job: Option<JobId>,
    /// Why the last tick made no job.
    pub last_error: Option<String>,
    pub created_at: DateTime<Utc>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id = ScheduleId(7_528_000_000_000_000_001);
        assert_eq!(id.to_string().parse(), Ok(id));
        let job = JobId(id.0).to_string();
        for bad in ["", "sch_", "sch_1", job.as_str()] {
            assert!(bad.parse::<ScheduleId>().is_err(), "{bad}");
        }
    }
}
