//! What cannot be declared, and why.

use std::collections::{BTreeMap, BTreeSet};

use super::{Budget, Policy, Scope};
use crate::tags::{BadTags, Tags};

/// More of a threshold would be a slip of the hand.
const MOST_PERCENT: u32 = 1_000;
const MOST_THRESHOLDS: usize = 16;
/// Of a budget that is never reset, in seconds.
const LONGEST_GUARD: i64 = 366 * 86_400;
/// As many decimal digits as the database sums up.
const MOST: i128 = 10i128.pow(30);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadBudget {
    #[error(
        "a budget's name has 1 to 63 of the characters a-z, 0-9, _ and -, and begins with none of the last two; {0:?} does not"
    )]
    Name(String),
    /// `key` as it is declared.
    #[error("{key} {reason}")]
    Value { key: &'static str, reason: String },
    #[error("scope: {0}")]
    Tags(#[from] BadTags),
    #[error("scope.{dimension} = {value:?} is not known; nothing would ever be counted")]
    Unknown { dimension: &'static str, value: String },
    #[error("it counts what budget {0} counts: the same scope, window, time zone and unit; change that one")]
    Duplicate(String),
}

fn bad<T>(key: &'static str, reason: impl Into<String>) -> Result<T, BadBudget> {
    Err(BadBudget::Value { key, reason: reason.into() })
}

pub fn check_name(name: &str) -> Result<(), BadBudget> {
    let fits = (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
        && !name.starts_with(['_', '-']);
    if fits { Ok(()) } else { Err(BadBudget::Name(name.chars().take(64).collect())) }
}

/// Whether it can be on its own.
pub fn check(budget: &Budget) -> Result<(), BadBudget> {
    let key = match (budget.limit_usd, budget.limit_tokens) {
        (Some(_), Some(_)) => return bad("limit_tokens", "stands beside limit_usd; a budget counts one of the two"),
        (None, None) => return bad("limit_usd", "is missing, and so is limit_tokens"),
        (Some(_), None) => "limit_usd",
        (None, Some(_)) => "limit_tokens",
    };
    if budget.cap() <= 0 {
        return bad(key, format!("is {}; a limit is above zero", budget.unit().text(budget.cap())));
    }
    if budget.cap() > MOST {
        return bad(key, "is more money than there is");
    }
    if budget.soft && matches!(budget.policy(), Policy::Reject | Policy::Hold) {
        let policy = budget.policy().as_str();
        return bad("policy", format!("is {policy}, but a soft budget lets calls through: alert or downgrade"));
    }
    check_thresholds(budget)?;
    check_guard(budget)?;
    check_scope(&budget.scope)
}

fn check_thresholds(budget: &Budget) -> Result<(), BadBudget> {
    let thresholds = &budget.thresholds;
    if thresholds.len() > MOST_THRESHOLDS {
        return bad("thresholds", format!("are {}; at most {MOST_THRESHOLDS}", thresholds.len()));
    }
    if !thresholds.is_sorted_by(|a, b| a < b) {
        return bad("thresholds", "ascend, and none comes twice");
    }
    match thresholds.iter().find(|percent| !(1..=MOST_PERCENT).contains(*percent)) {
        Some(percent) => return bad("thresholds", format!("has {percent}; it is from 1 to {MOST_PERCENT} percent")),
        None if budget.soft => return Ok(()),
        None => {}
    }
    match thresholds.iter().find(|percent| **percent > 100) {
        Some(percent) => bad("thresholds", format!("has {percent}, which a budget that is not soft never reaches")),
        None => Ok(()),
    }
}

fn check_guard(budget: &Budget) -> Result<(), BadBudget> {
    let Some(guard) = budget.guard else { return Ok(()) };
    if !(1..=100).contains(&guard.percent) {
        return bad("guard.percent", format!("is {}; it is from 1 to 100 percent of the limit", guard.percent));
    }
    if guard.rate(budget.cap()) == 0 {
        return bad("guard.percent", "of so small a limit is nothing");
    }
    let longest = budget.window.seconds().unwrap_or(LONGEST_GUARD);
    if guard.per.seconds() > longest {
        return bad("guard.per", format!("is {}, longer than the budget's window, {}", guard.per, budget.window));
    }
    Ok(())
}

/// Of tags that a call can have; all of them together.
fn check_scope(scope: &Scope) -> Result<(), BadBudget> {
    if let Some(key) = ["team", "environment", "feature", "customer"].iter().find(|key| scope.tags.contains_key(**key))
    {
        return bad("scope.tags", format!("has {key}, which is said as scope.{key}"));
    }
    let named = [("environment", &scope.environment), ("feature", &scope.feature), ("customer", &scope.customer)];
    let named = named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?)));
    Tags::try_from(scope.tags.clone().into_iter().chain(named).collect::<BTreeMap<_, _>>())?;
    Ok(())
}

/// Names that exist where it is declared.
#[derive(Debug, Default)]
pub struct Known<'a> {
    pub teams: BTreeSet<&'a str>,
    pub deployments: BTreeSet<&'a str>,
    pub providers: BTreeSet<&'a str>,
    /// Of the scope's key and job, whether there is one.
    pub has_key: bool,
    pub has_job: bool,
}

/// Whether it can be beside the `others`, and what it names exists.
pub fn check_beside<'a>(
    budget: &Budget,
    known: &Known<'_>,
    others: impl IntoIterator<Item = (&'a str, &'a Budget)>,
) -> Result<(), BadBudget> {
    let scope = &budget.scope;
    let named = [
        ("team", &scope.team, &known.teams),
        ("deployment", &scope.deployment, &known.deployments),
        ("provider", &scope.provider, &known.providers),
    ];
    for (dimension, value, names) in named {
        if let Some(value) = value
            && !names.contains(value.as_str())
        {
            return Err(BadBudget::Unknown { dimension, value: value.clone() });
        }
    }
    match (&scope.key, scope.job) {
        (Some(key), _) if !known.has_key => {
            return Err(BadBudget::Unknown { dimension: "key", value: key.clone() });
        }
        (_, Some(job)) if !known.has_job => {
            return Err(BadBudget::Unknown { dimension: "job", value: job.to_string() });
        }
        _ => {}
    }
    match others.into_iter().find(|(_, other)| budget.counts_as(other)) {
        Some((name, _)) => Err(BadBudget::Duplicate(name.to_owned())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
