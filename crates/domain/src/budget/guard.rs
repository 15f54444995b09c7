//! A budget's guard: how fast one job, one feature or one team may spend what it has.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Facts, Length, Window};
use crate::attempt::words;

words! {
    /// Whose spend the guard limits, each separately.
    GuardBy {
        Job = "job",
        Feature = "feature",
        Team = "team",
    }
}

/// Within any `per`, each of them spends at most so many percent of the limit. The job that would spend more is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guard {
    pub percent: u32,
    pub per: Length,
    #[serde(default = "by_job")]
    pub by: GuardBy,
}

fn by_job() -> GuardBy {
    GuardBy::Job
}

/// One of those whose spend a guard looks at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    Job(i64),
    Feature(String),
    Team(String),
}

impl Guard {
    /// What one of them may spend within `per`, of a budget with this limit.
    pub fn rate(&self, cap: i128) -> i128 {
        cap * i128::from(self.percent) / 100
    }

    /// Its time rolls, whatever the budget's does.
    pub fn window(&self) -> Window {
        Window::Rolling(self.per)
    }

    /// `None`: it does not concern the call.
    pub fn subject(&self, facts: &Facts<'_>) -> Option<Subject> {
        Some(match self.by {
            GuardBy::Job => Subject::Job(facts.job?),
            GuardBy::Feature => Subject::Feature(facts.tags.feature().to_owned()),
            GuardBy::Team => Subject::Team(facts.team.to_owned()),
        })
    }
}

/// `10 % in 1h a job`.
impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} % in {} a {}", self.percent, self.per, self.by.as_str())
    }
}

impl Subject {
    pub fn job(&self) -> Option<i64> {
        if let Self::Job(id) = self { Some(*id) } else { None }
    }
}

/// As the database keeps it.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(id) => write!(f, "job {id}"),
            Self::Feature(name) => write!(f, "feature {name}"),
            Self::Team(name) => write!(f, "team {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Tags;

    #[test]
    fn whose_call_it_is() {
        let tags: Tags = "feature=chat".parse().unwrap();
        let facts = Facts { team: "a", key: None, job: Some(7), deployment: "d", provider: "p", tags: &tags };
        let guard =
            |by: &str| -> Guard { serde_json::from_value(json!({"percent": 10, "per": "1h", "by": by})).unwrap() };
        let subject = |by: &str, facts: &Facts<'_>| guard(by).subject(facts).map(|subject| subject.to_string());
        assert_eq!(subject("job", &facts).as_deref(), Some("job 7"));
        assert_eq!(subject("feature", &facts).as_deref(), Some("feature chat"));
        assert_eq!(subject("team", &facts).as_deref(), Some("team a"));
        let call = Facts { job: None, ..facts };
        assert_eq!(subject("job", &call), None, "a synchronous call is no job's");
    }

    #[test]
    fn a_tenth_of_the_month_in_any_hour() {
        let guard: Guard = serde_json::from_value(json!({"percent": 10, "per": "1h"})).unwrap();
        assert_eq!((guard.rate(24_000), guard.window()), (2_400, "rolling 1h".parse().unwrap()));
        assert_eq!(guard.to_string(), "10 % in 1h a job");
        assert!(serde_json::from_value::<Guard>(json!({"percent": 10, "per": "1h", "by": "lane"})).is_err());
    }
}
