//! The standing of each budget: spent, reserved, left, and its burn rate.

use chrono::{DateTime, TimeDelta, Utc};
use domain::budget::{Unit, Window};
use store::{
    PgConnection,
    budget::{BudgetRow, Over, Standing, Verified},
};

use super::{
    burn_rate::{self, Burnt},
    windows::cells,
};
use crate::AdmissionControl;

/// The most calls that are named when a budget is over its limit.
const MOST_CALLS: i64 = 20;

#[derive(Debug, Clone)]
pub struct BudgetStanding {
    pub row: BudgetRow,
    pub standing: Standing,
    /// Never below zero.
    pub left: i128,
    pub window_start: DateTime<Utc>,
    pub resets_at: Option<DateTime<Utc>>,
    /// Spent in an hour, by the last one: see [`super::burn_rate`].
    pub burn: i128,
    /// When it is used up at this rate; `None`: not before it resets.
    pub exhausted_at: Option<DateTime<Utc>>,
    /// Whether the observation is long enough for an alert.
    pub is_burn_telling: bool,
    /// When it is used up at the average rate since the window began.
    pub exhausted_on_average: Option<DateTime<Utc>>,
    /// What the ledger says, where that was asked for.
    pub verified: Option<Verified>,
    /// The same: if more was spent than the limit, by which calls.
    pub over: Option<Over>,
}

pub async fn show(control: &AdmissionControl) -> store::Result<Vec<BudgetStanding>> {
    let now = control.clock.now();
    let mut conn = control.pools.api.acquire().await?;
    let rows = store::budget::active(&mut conn).await?;
    show_at(&mut conn, rows.into_iter().map(|row| (row, now)).collect()).await
}

/// How they stand, and before each that was reset in the last hour how it stood then: calls of the old window still come in, and
/// nobody may have looked at its end. Without those whose past is not counted yet.
pub async fn show_with_last(conn: &mut PgConnection, now: DateTime<Utc>) -> store::Result<Vec<BudgetStanding>> {
    let mut asked = Vec::new();
    for row in store::budget::active(conn).await?.into_iter().filter(|row| row.is_counted) {
        let window = row.budget.window;
        let start = window.span(row.budget.time_zone, now).start;
        if window.length().is_none() && window != Window::Total && now - start < TimeDelta::hours(1) {
            asked.push((row.clone(), start - TimeDelta::microseconds(1)));
        }
        asked.push((row, now));
    }
    show_at(conn, asked).await
}

/// Each at a moment of its own.
async fn show_at(
    conn: &mut PgConnection,
    asked: Vec<(BudgetRow, DateTime<Utc>)>,
) -> store::Result<Vec<BudgetStanding>> {
    let windows: Vec<_> = asked.iter().map(|(row, at)| cells(row.budget_id, &row.budget, *at)).collect();
    let standings = store::budget::standing(conn, &windows).await?;
    let burnt = burn_rate::lately(conn, &asked, &standings).await?;
    let each = asked.into_iter().zip(standings).zip(burnt);
    Ok(each.map(|(((row, at), standing), burnt)| shown(row, standing, burnt, at)).collect())
}

/// The same, and beside each what the ledger adds up to.
pub async fn verify(control: &AdmissionControl) -> store::Result<Vec<BudgetStanding>> {
    let mut all = show(control).await?;
    let mut conn = control.pools.api.acquire().await?;
    for one in &mut all {
        let now = control.clock.now();
        let sums = store::budget::verify(&mut conn, one.row.budget_id, &one.row.budget, now).await?;
        if sums.ledger > one.row.budget.cap() {
            one.over = Some(store::budget::over(&mut conn, &one.row.budget, now, MOST_CALLS).await?);
        }
        one.verified = Some(sums);
    }
    Ok(all)
}

pub fn shown(row: BudgetRow, standing: Standing, burnt: Option<Burnt>, now: DateTime<Utc>) -> BudgetStanding {
    let (window, zone) = (row.budget.window, row.budget.time_zone);
    let left = (row.budget.cap() - standing.taken).max(0);
    let window_start = window.span(zone, now).since;
    let resets_at = window.resets_at(zone, now);
    let used_up = |burnt: Burnt| match window {
        // What is spent now leaves it again: it lasts if its whole length of that fits.
        Window::Rolling(length) if burnt.in_seconds(length.seconds(), now) <= row.budget.cap() => None,
        Window::Rolling(_) => burnt.ends_at(left, now),
        _ => burnt.ends_at(left, now).filter(|at| resets_at.is_none_or(|reset| *at < reset)),
    };
    let average = Burnt { spent: standing.spent, since: window_start };
    BudgetStanding {
        left,
        window_start,
        burn: burnt.map_or(0, |burnt| burnt.per_hour(now)),
        exhausted_at: burnt.and_then(used_up),
        is_burn_telling: burnt.is_some_and(|burnt| burnt.is_telling(now)),
        exhausted_on_average: used_up(average),
        resets_at,
        standing,
        verified: None,
        over: None,
        row,
    }
}

impl BudgetStanding {
    pub fn unit(&self) -> Unit {
        self.row.budget.unit()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Of a budget of 1,000 of which so much is spent at six, this much of it since five.
    fn check(window: &str, spent: i128, lately: i128, expected: (i128, [Option<&str>; 2])) {
        let budget = serde_json::from_value(json!({"limit_tokens": 1_000, "window": window})).unwrap();
        let row = BudgetRow { budget_id: 1, name: "b".into(), budget, is_file_managed: false, is_counted: true };
        let standing = Standing { spent, taken: spent, ..Standing::default() };
        let burnt = Burnt { spent: lately, since: "2026-11-23T05:00:00Z".parse().unwrap() };
        let shown = shown(row, standing, Some(burnt), "2026-11-23T06:00:00Z".parse().unwrap());
        let expected = (expected.0, expected.1.map(|at| at.map(|at| at.parse().unwrap())));
        let found = (shown.burn, [shown.exhausted_at, shown.exhausted_on_average]);
        assert_eq!(found, expected, "{window} {spent} {lately}");
    }

    #[test]
    fn what_goes_on_as_before_ends_when_it_ends() {
        check("day", 0, 0, (0, [None, None]));
        check("day", 120, 0, (0, [None, None]));
        check("day", 120, 88, (88, [Some("2026-11-23T16:00:00Z"), None]));
        check("day", 600, 0, (0, [None, Some("2026-11-23T10:00:00Z")]));
        check("day", 1_000, 500, (500, [Some("2026-11-23T06:00:00Z"); 2]));
        check("rolling 12h", 600, 80, (80, [None, None]));
        check("rolling 12h", 600, 100, (100, [Some("2026-11-23T10:00:00Z"), None]));
    }

    #[test]
    fn a_total_lasts_as_long_as_its_last_hour_says() {
        let budget = serde_json::from_value(json!({"limit_tokens": 1_000, "window": "total"})).unwrap();
        let row = BudgetRow { budget_id: 1, name: "b".into(), budget, is_file_managed: false, is_counted: true };
        let now = "2026-11-23T06:00:00Z".parse().unwrap();
        let standing = Standing { spent: 900, taken: 900, ..Standing::default() };
        let unknown = shown(row.clone(), standing, None, now);
        assert_eq!((unknown.burn, unknown.exhausted_at), (0, None));
        let burnt = Burnt { spent: 50, since: now - TimeDelta::hours(1) };
        assert_eq!(shown(row, standing, Some(burnt), now).exhausted_at, Some(now + TimeDelta::hours(2)));
    }
}
