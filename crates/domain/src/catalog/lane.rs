//! The rule of a lane, and its checks.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::lane::Lane;

/// At least a tenth is left for lanes without a reserve.
const MOST_RESERVED: u32 = 90;
const MOST_WEIGHT: u32 = 1_000;
const LONGEST_DEADLINE_S: u64 = 366 * 24 * 3600;
const LONGEST_BACKOFF_MS: u64 = 24 * 3600 * 1000;
const LONGEST_AGING_S: u64 = 366 * 24 * 3600;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaneClass {
    /// Served before every weighted lane.
    Strict,
    Weighted,
}

/// What was left out when it was declared is left out of documents too, so that an older Tollway reads them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaneRule {
    pub class: LaneClass,
    /// Share of what strict lanes leave, among weighted lanes.
    #[serde(default = "one")]
    pub weight: u32,
    /// Percent of a replica's slots, and of every deployment's quota, that only this lane may use.
    #[serde(default)]
    pub reserve_percent: u8,
    /// Percent of a replica's slots, and of every deployment's quota, that it may use at most.
    #[serde(default = "all", skip_serializing_if = "is_all")]
    pub max_percent: u8,
    /// Deadline of jobs that name none, from their start. Left out: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_s: Option<u64>,
    /// Failed tries of one request before it is dead-lettered, for jobs that do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<i16>,
    /// The pause before the second try; doubled for each further one, up to `backoff_max_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_max_ms: Option<u64>,
    /// A weighted lane without a slot for this long is served once ahead of the strict ones; 0: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aging_s: Option<u64>,
    /// It takes no new work; what is in it is served.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closed: bool,
}

fn one() -> u32 {
    1
}
fn all() -> u8 {
    100
}
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_all(percent: &u8) -> bool {
    *percent == all()
}

impl LaneRule {
    pub const MAX_ATTEMPTS: i16 = 5;
    const BACKOFF_MS: u64 = 500;
    const BACKOFF_MAX_MS: u64 = 30_000;
    const AGING_S: u64 = 30;

    pub fn new(class: LaneClass, weight: u32) -> Self {
        Self {
            class,
            weight,
            reserve_percent: 0,
            max_percent: all(),
            deadline_s: None,
            max_attempts: None,
            backoff_ms: None,
            backoff_max_ms: None,
            aging_s: None,
            closed: false,
        }
    }

    /// The same for a lane that was removed, until nothing is left in it. What was reserved for it is the others' at once.
    pub fn closing(&self) -> Self {
        Self { closed: true, reserve_percent: 0, ..self.clone() }
    }

    pub fn max_attempts(&self) -> i16 {
        self.max_attempts.unwrap_or(Self::MAX_ATTEMPTS)
    }
    /// The first pause between tries, and the longest.
    pub fn backoff(&self) -> (Duration, Duration) {
        let first = self.backoff_ms.unwrap_or(Self::BACKOFF_MS);
        let longest = self.backoff_max_ms.unwrap_or(Self::BACKOFF_MAX_MS).max(first);
        (Duration::from_millis(first), Duration::from_millis(longest))
    }
    /// After how long without a slot it goes first; `None`: it never does.
    pub fn aging(&self) -> Option<Duration> {
        let after = self.aging_s.unwrap_or(Self::AGING_S);
        (self.class == LaneClass::Weighted && after > 0).then(|| Duration::from_secs(after))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLanes {
    #[error("there must be at least one lane")]
    None,
    #[error("the lanes' reserves add up to {0} %; at most {MOST_RESERVED} can be reserved")]
    Reserves(u32),
    /// `key` as in the configuration.
    #[error("lane {lane}: {key} {reason}")]
    Rule { lane: Lane, key: &'static str, reason: String },
}

/// Whether these lanes can be beside one another.
pub fn check_lanes(lanes: &BTreeMap<Lane, LaneRule>) -> Result<(), BadLanes> {
    if lanes.is_empty() {
        return Err(BadLanes::None);
    }
    for (lane, rule) in lanes {
        check(rule).map_err(|(key, reason)| BadLanes::Rule { lane: lane.clone(), key, reason })?;
    }
    let reserved: u32 = lanes.values().map(|rule| u32::from(rule.reserve_percent)).sum();
    if reserved > MOST_RESERVED { Err(BadLanes::Reserves(reserved)) } else { Ok(()) }
}

fn check(rule: &LaneRule) -> Result<(), (&'static str, String)> {
    fn within<T: PartialOrd + std::fmt::Display>(
        key: &'static str,
        value: Option<T>,
        least: T,
        most: T,
    ) -> Result<(), (&'static str, String)> {
        match value {
            Some(value) if value < least || value > most => {
                Err((key, format!("is {value}; it is at least {least} and at most {most}")))
            }
            _ => Ok(()),
        }
    }
    within("weight", Some(rule.weight), 1, MOST_WEIGHT)?;
    within("max_percent", Some(rule.max_percent), 1, 100)?;
    within("deadline_s", rule.deadline_s, 1, LONGEST_DEADLINE_S)?;
    within("max_attempts", rule.max_attempts, 1, 100)?;
    within("backoff_ms", rule.backoff_ms, 1, LONGEST_BACKOFF_MS)?;
    within("backoff_max_ms", rule.backoff_max_ms, 1, LONGEST_BACKOFF_MS)?;
    within("aging_s", rule.aging_s, 0, LONGEST_AGING_S)?;
    if rule.backoff_max_ms.is_some_and(|longest| longest < rule.backoff_ms.unwrap_or(LaneRule::BACKOFF_MS)) {
        return Err(("backoff_max_ms", "is below backoff_ms".to_owned()));
    }
    if rule.max_percent < rule.reserve_percent {
        return Err((
            "max_percent",
            format!("is {}, below the {} % that are reserved for it", rule.max_percent, rule.reserve_percent),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Catalog;

    fn said(name: &str, rule: LaneRule) -> Option<String> {
        let mut lanes = Catalog::default_lanes();
        lanes.insert(name.parse().unwrap(), rule);
        check_lanes(&lanes).err().map(|bad| bad.to_string())
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_reason() {
        let rule = || LaneRule::new(LaneClass::Weighted, 2);
        assert_eq!(said("night", rule()), None);
        for (rule, expected) in [
            (LaneRule { weight: 0, ..rule() }, "lane night: weight is 0; it is at least 1 and at most 1000"),
            (
                LaneRule { reserve_percent: 81, ..rule() },
                "the lanes' reserves add up to 91 %; at most 90 can be reserved",
            ),
            (
                LaneRule { reserve_percent: 20, max_percent: 10, ..rule() },
                "lane night: max_percent is 10, below the 20 % that are reserved for it",
            ),
            (LaneRule { max_percent: 0, ..rule() }, "lane night: max_percent is 0; it is at least 1 and at most 100"),
            (
                LaneRule { max_attempts: Some(0), ..rule() },
                "lane night: max_attempts is 0; it is at least 1 and at most 100",
            ),
            (LaneRule { backoff_max_ms: Some(100), ..rule() }, "lane night: backoff_max_ms is below backoff_ms"),
            (
                LaneRule { aging_s: Some(u64::MAX), ..rule() },
                "lane night: aging_s is 18446744073709551615; it is at least 0 and at most 31622400",
            ),
        ] {
            assert_eq!(said("night", rule).as_deref(), Some(expected));
        }
        assert_eq!(check_lanes(&BTreeMap::new()), Err(BadLanes::None));
    }

    #[test]
    fn a_document_says_only_what_was_declared() {
        let rule = LaneRule { reserve_percent: 10, ..LaneRule::new(LaneClass::Strict, 1) };
        let document = serde_json::json!({"class": "strict", "weight": 1, "reserve_percent": 10});
        assert_eq!(serde_json::to_value(&rule).unwrap(), document);
        assert_eq!(serde_json::from_value::<LaneRule>(document).unwrap(), rule);
    }

    #[test]
    fn only_weighted_lanes_age_and_only_unless_told_not_to() {
        assert!(LaneRule::new(LaneClass::Weighted, 1).aging().is_some());
        assert_eq!(LaneRule { aging_s: Some(0), ..LaneRule::new(LaneClass::Weighted, 1) }.aging(), None);
        assert_eq!(LaneRule::new(LaneClass::Strict, 1).aging(), None);
    }
}
