//! Ids that sort by time. A job's id is a bigint (milliseconds since the epoch << 22 | random), shown as `job_` and 13
//! characters of Crockford's base32; a request is named by its job and its line.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One provider call: the unit of the ledger, sent upstream as `x-client-request-id`. A UUIDv7.
pub type AttemptId = uuid::Uuid;

/// An attempt's id, made at `now`. Its random bits come from this thread's generator: asking the kernel for those of each call costs
/// more than all else that is done for the id.
pub fn attempt_id(now: DateTime<Utc>) -> AttemptId {
    let milliseconds = u64::try_from(now.timestamp_millis()).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(milliseconds, &rand::random()).into_uuid()
}

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const RANDOM_BITS: u32 = 22;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not an id of the form {form}")]
pub struct BadId {
    given: String,
    form: &'static str,
}

impl BadId {
    pub(crate) fn new(given: &str, form: &'static str) -> Self {
        Self { given: given.chars().take(64).collect(), form }
    }
}

/// A bigint that starts with the time it was made, so that tables can be partitioned by it.
pub fn time_id(now: DateTime<Utc>) -> i64 {
    let random = i64::from(rand::random::<u32>()) & ((1 << RANDOM_BITS) - 1);
    (now.timestamp_millis() << RANDOM_BITS) | random
}

/// The smallest id that [`time_id`] can give at `at`: a partition's bound.
pub fn time_id_floor(at: DateTime<Utc>) -> i64 {
    at.timestamp_millis() << RANDOM_BITS
}

/// The time inside an id that [`time_id`] made; `None` when the bits hold no time chrono can show.
pub fn time_of(id: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(id >> RANDOM_BITS)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub i64);

impl JobId {
    pub fn new(now: DateTime<Utc>) -> Self {
        Self(time_id(now))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 13];
        let mut rest = self.0 as u64;
        for place in text.iter_mut().rev() {
            *place = ALPHABET[(rest & 31) as usize];
            rest >>= 5;
        }
        f.write_str("job_")?;
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for JobId {
    type Err = BadId;

    fn from_str(given: &str) -> Result<Self, BadId> {
        let bad = || BadId::new(given, "job_<13 characters>");
        let text = given.strip_prefix("job_").ok_or_else(bad)?;
        if text.len() != 13 {
            return Err(bad());
        }
        let mut value: u64 = 0;
        for byte in text.bytes() {
            let digit = ALPHABET.iter().position(|c| *c == byte.to_ascii_lowercase()).ok_or_else(bad)?;
            value = value.checked_mul(32).ok_or_else(bad)? | digit as u64;
        }
        i64::try_from(value).map(Self).map_err(|_| bad())
    }
}

impl Serialize for JobId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// One line of a job, counted from 1 as editors do; a synchronous call is line 0 of an id of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    pub job: JobId,
    pub line: i32,
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let job = self.job.to_string();
        write!(f, "req_{}_{}", job.trim_start_matches("job_"), self.line)
    }
}

impl FromStr for RequestId {
    type Err = BadId;

    fn from_str(given: &str) -> Result<Self, BadId> {
        let bad = || BadId { given: given.chars().take(64).collect(), form: "req_<job>_<line>" };
        let (job, line) = given.strip_prefix("req_").and_then(|rest| rest.split_once('_')).ok_or_else(bad)?;
        Ok(Self { job: format!("job_{job}").parse().map_err(|_| bad())?, line: line.parse().map_err(|_| bad())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_job_id_reads_back_as_itself(id in 0..i64::MAX) {
            let shown = JobId(id).to_string();
            prop_assert_eq!(shown.len(), 17);
            prop_assert_eq!(shown.parse::<JobId>().unwrap(), JobId(id));
        }

        #[test]
        fn ids_sort_as_their_texts(a in 0..i64::MAX, b in 0..i64::MAX) {
            prop_assert_eq!(a.cmp(&b), JobId(a).to_string().cmp(&JobId(b).to_string()));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,40}") {
            let _ = text.parse::<JobId>();
            let _ = text.parse::<RequestId>();
        }
    }

    #[test]
    fn an_id_carries_its_time() {
        let now = DateTime::from_timestamp_millis(1_795_000_000_123).unwrap();
        assert_eq!(time_of(time_id(now)), Some(now));
        assert!(time_id_floor(now) <= time_id(now));
    }

    #[test]
    fn a_request_is_named_by_job_and_line() {
        let id = RequestId { job: JobId(7_528_000_000_000_000_001), line: 42 };
        assert_eq!(id.to_string().parse::<RequestId>().unwrap(), id);
        assert!("req_zzzzzzzzzzzzz_1".parse::<RequestId>().is_err());
    }
}
