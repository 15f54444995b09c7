//! A job that waits for another one.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{attempt::words, ids::JobId};

words! {
    /// Which end of the other job it waits for.
    AfterOn {
        /// Every request of it succeeded. After any other end the waiting job is cancelled.
        Success = "success",
        /// However it ends.
        End = "end",
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct After {
    pub job: JobId,
    #[serde(default = "success")]
    pub on: AfterOn,
}

fn success() -> AfterOn {
    AfterOn::Success
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a job, such as job_0abcdefghjkmn, nor one with :success or :end behind it")]
pub struct BadAfter(String);

impl FromStr for After {
    type Err = BadAfter;

    fn from_str(text: &str) -> Result<Self, BadAfter> {
        let bad = || BadAfter(text.chars().take(64).collect());
        let (job, on) = match text.split_once(':') {
            Some((job, on)) => (job, AfterOn::from_word(on).ok_or_else(bad)?),
            None => (text, AfterOn::Success),
        };
        Ok(Self { job: job.parse().map_err(|_| bad())?, on })
    }
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.job, self.on.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_it_is_read() {
        let job = JobId(7_528_000_000_000_000_001);
        for on in AfterOn::ALL {
            let after = After { job, on: *on };
            assert_eq!(after.to_string().parse(), Ok(after));
        }
        assert_eq!(job.to_string().parse(), Ok(After { job, on: AfterOn::Success }));
        for bad in ["", "job_1", ":end", &format!("{job}:"), &format!("{job}:failure")] {
            assert!(bad.parse::<After>().is_err(), "{bad}");
        }
    }
}
