//! Budgets that reached a threshold, or will not last.

use std::fmt::Write as _;

use admission::budgets::{self, BudgetStanding};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    AlertKind,
    alert::{Field, Said},
    budget::{Policy, Window},
};
use store::alert::Key;

use super::{Raised, raise::raise_all, threshold};
use crate::Notifier;

/// In place of a percent: it will be used up before it resets.
const PROJECTED: i32 = 0;

/// Tells of all budgets. Gives the number of new alerts.
pub async fn tell_of_budgets(notifier: &Notifier) -> store::Result<usize> {
    let now = notifier.clock.now();
    let shown = budgets::show_with_last(&mut *notifier.pools.work.acquire().await?, now).await?;
    let raised: Vec<Raised> = shown.iter().flat_map(|shown| of(shown, now)).collect();
    raise_all(&notifier.pools.work, &notifier.receivers, &raised, now).await
}

fn of(shown: &BudgetStanding, now: DateTime<Utc>) -> impl Iterator<Item = Raised> + use<> {
    reached(shown, now).into_iter().chain(projected(shown, now))
}

/// What the ledger has. What is held or unproven changes with every call, and may come back.
fn gone(shown: &BudgetStanding) -> i128 {
    shown.standing.spent
}

fn key(shown: &BudgetStanding, threshold: i32, now: DateTime<Utc>) -> Key {
    // A window that rolls has no end; it tells again when as much time has passed as it is long.
    let until = match shown.row.budget.window {
        Window::Rolling(length) => Some(now + TimeDelta::seconds(length.seconds())),
        _ => shown.resets_at,
    };
    let about = about(shown.row.budget_id, shown.row.budget.cap());
    Key { kind: AlertKind::Budget, about, threshold, since: shown.window_start, until }
}

/// A budget of another amount has other thresholds: what was told of the old ones says nothing of them. A change of its window, its
/// unit or its scope makes a budget with another id.
fn about(budget_id: i64, cap: i128) -> String {
    format!("{budget_id}@{cap}")
}

fn raised(shown: &BudgetStanding, key: Key, silent: Vec<Key>, title: String, text: String) -> Raised {
    let team = shown.row.budget.scope.team.clone();
    let said = Said { title, text, fields: fields(shown) };
    Raised { key, object: shown.row.name.clone(), team, said, silent }
}

/// The highest threshold that is reached; it speaks for those below.
fn reached(shown: &BudgetStanding, now: DateTime<Utc>) -> Option<Raised> {
    let (budget, gone) = (&shown.row.budget, gone(shown));
    let reached = threshold::reached(budget, gone);
    let mut keys = reached.iter().map(|percent| key(shown, i32::try_from(*percent).unwrap_or(i32::MAX), now));
    let (highest, unit) = (keys.next()?, budget.unit());
    let name = &shown.row.name;
    let title = match highest.threshold {
        100 if !budget.lets_through() => format!("Budget {name} is used up"),
        percent => format!("Budget {name} reached {percent} %"),
    };
    let mut text = format!(
        "{} of {} ({} %) is spent. Window: {}; of: {}. {}",
        unit.said(gone),
        unit.said(budget.cap()),
        threshold::percent(budget, gone),
        budget.window,
        budget.scope,
        consequence(shown),
    );
    if let Some(reset) = shown.resets_at.filter(|_| budget.window.length().is_none()) {
        let verb = if reset > now { "It resets at" } else { "That was in the window until" };
        let _ = write!(text, " {verb} {}.", time(reset));
    }
    Some(raised(shown, highest, keys.collect(), title, text))
}

fn projected(shown: &BudgetStanding, now: DateTime<Utc>) -> Option<Raised> {
    let budget = &shown.row.budget;
    let (at, end) = (shown.exhausted_at?, shown.resets_at?);
    let is_over = threshold::reached(budget, gone(shown)).first().is_some_and(|percent| *percent >= 100);
    let is_due = || threshold::is_due(shown.window_start, end, now, at, shown.exhausted_on_average);
    if is_over || budget.window.length().is_some() || !shown.is_burn_telling || !is_due() {
        return None;
    }
    let unit = budget.unit();
    let title = format!("Budget {} will not last", shown.row.name);
    let text = format!(
        "At {} an hour, its {} will be used up at {}, before it resets at {}. {}",
        unit.said(shown.burn),
        unit.said(budget.cap()),
        time(at),
        time(end),
        consequence(shown),
    );
    Some(raised(shown, key(shown, PROJECTED, now), Vec::new(), title, text))
}

fn consequence(shown: &BudgetStanding) -> &'static str {
    match (shown.row.budget.lets_through(), shown.row.budget.policy()) {
        (true, Policy::Downgrade) => "At the limit, calls go to cheaper deployments, and beyond it.",
        (true, _) => "At the limit, nothing is held up.",
        (false, Policy::Downgrade) => "At the limit, calls go to the next deployment that fits, or wait or get 402.",
        (false, _) => "At the limit, calls get 402, and requests of jobs wait.",
    }
}

fn fields(shown: &BudgetStanding) -> Vec<Field> {
    let (unit, standing) = (shown.unit(), &shown.standing);
    let mut fields = vec![
        Field::new("Limit", unit.said(shown.row.budget.cap())),
        Field::new("Spent", unit.said(standing.spent)),
        Field::new("Left", unit.said(shown.left)),
    ];
    if standing.unproven > 0 {
        fields.push(Field::new("Unproven", unit.said(standing.unproven)));
    }
    if standing.reserved > 0 {
        fields.push(Field::new("Held by calls under way", unit.said(standing.reserved)));
    }
    if shown.burn > 0 {
        fields.push(Field::new("An hour", unit.said(shown.burn)));
    }
    if let Some(at) = shown.exhausted_at {
        fields.push(Field::new("Used up", time(at)));
    }
    fields
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests;
