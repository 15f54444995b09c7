//! What a job would take of the budgets that it is under.

use admission::budgets::BudgetStanding;
use chrono::{DateTime, SecondsFormat, Utc};
use domain::{
    Tags,
    budget::{Facts, Policy, Unit},
};
use serde::Serialize;

use super::sums::Sums;

/// Amounts are USD as decimal text, or tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BudgetQuote {
    pub budget: String,
    pub unit: Unit,
    pub policy: Policy,
    pub left: String,
    pub expected: String,
    pub worst: String,
    pub fits: Fits,
    /// Absent when it never resets, or bit by bit.
    pub resets_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fits {
    Surely,
    /// If it costs what is expected.
    Likely,
    No,
}

/// Who would submit it, and what for.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    pub team: &'a str,
    pub key: &'a str,
    pub tags: &'a Tags,
}

/// `standing`: all budgets. Each route counts as served by its first deployment.
pub fn touched(standing: Vec<BudgetStanding>, by: By<'_>, sums: &[Sums]) -> Vec<BudgetQuote> {
    standing.into_iter().filter_map(|shown| touch(&shown, by, sums)).collect()
}

fn touch(shown: &BudgetStanding, by: By<'_>, sums: &[Sums]) -> Option<BudgetQuote> {
    let (budget, unit) = (&shown.row.budget, shown.unit());
    let is_under = |sum: &&Sums| {
        sum.first().is_some_and(|deployment| {
            budget.scope.covers(&Facts {
                team: by.team,
                key: Some(by.key),
                job: None,
                deployment: &deployment.name,
                provider: deployment.spec.provider_name(),
                tags: by.tags,
            })
        })
    };
    let mut under = sums.iter().filter(is_under).peekable();
    under.peek()?;
    let (mut expected, mut worst) = (0, 0);
    for sum in under {
        let amounts = match unit {
            Unit::Usd => sum.cost(),
            Unit::Tokens => sum.tokens(),
        };
        (expected, worst) = (expected + amounts.0, worst + amounts.1);
    }
    let fits = match shown.left {
        left if worst <= left => Fits::Surely,
        left if expected <= left => Fits::Likely,
        _ => Fits::No,
    };
    Some(BudgetQuote {
        budget: shown.row.name.clone(),
        unit,
        policy: budget.policy(),
        left: unit.text(shown.left),
        expected: unit.text(expected),
        worst: unit.text(worst),
        fits,
        resets_at: shown.resets_at,
    })
}

impl BudgetQuote {
    /// What the submitter should know before, if anything.
    pub fn warning(&self) -> Option<String> {
        let Self { budget, left, expected, worst, .. } = self;
        let unit = match self.unit {
            Unit::Usd => "USD",
            Unit::Tokens => "tokens",
        };
        let resets = self
            .resets_at
            .map_or_else(String::new, |at| format!("; it resets at {}", at.to_rfc3339_opts(SecondsFormat::Secs, true)));
        match self.fits {
            Fits::Surely => None,
            Fits::Likely => Some(format!(
                "Budget {budget} has {left} {unit} left, which is enough for what is expected, not for all that it can cost, {worst}{resets}."
            )),
            Fits::No => {
                Some(format!("Budget {budget} has {left} {unit} left, and it is expected to take {expected}{resets}."))
            }
        }
    }
}
