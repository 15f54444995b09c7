//! How budgets stand.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use domain::{
    Budget,
    budget::{Unit, Window},
};
use store::{
    PgConnection,
    budget::{BudgetRow, Standing, Verified},
};

use crate::Engine;

#[derive(Debug, Clone)]
pub struct Shown {
    pub row: BudgetRow,
    pub standing: Standing,
    /// Never below zero.
    pub left: i128,
    pub window_start: DateTime<Utc>,
    pub resets_at: Option<DateTime<Utc>>,
    /// An hour, on the average since the window began.
    pub burn: i128,
    /// When it is used up if that goes on; `None`: not before it resets.
    pub exhausted_at: Option<DateTime<Utc>>,
    /// What the ledger says, where that was asked for.
    pub verified: Option<Verified>,
}

pub async fn show(engine: &Engine) -> store::Result<Vec<Shown>> {
    let now = engine.clock.now();
    let mut conn = engine.pools.api.acquire().await?;
    let rows = store::budget::active(&mut conn).await?;
    show_at(&mut conn, rows.into_iter().map(|row| (row, now)).collect()).await
}

/// How they stand, and before each that was reset in the last hour how it stood then: calls of the old window still come in, and
/// nobody may have looked at its end. Without those whose past is not counted yet.
pub(crate) async fn show_with_last(conn: &mut PgConnection, now: DateTime<Utc>) -> store::Result<Vec<Shown>> {
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
async fn show_at(conn: &mut PgConnection, asked: Vec<(BudgetRow, DateTime<Utc>)>) -> store::Result<Vec<Shown>> {
    let windows: Vec<_> = asked.iter().map(|(row, at)| window(row.budget_id, &row.budget, *at)).collect();
    let standings = store::budget::standing(conn, &windows).await?;
    Ok(asked.into_iter().zip(standings).map(|((row, at), standing)| shown(row, standing, at)).collect())
}

/// The same, and beside each what the ledger adds up to.
pub async fn verify(engine: &Engine) -> store::Result<Vec<Shown>> {
    let mut all = show(engine).await?;
    let mut conn = engine.pools.api.acquire().await?;
    for one in &mut all {
        let sums = store::budget::verify(&mut conn, one.row.budget_id, &one.row.budget, engine.clock.now()).await?;
        one.verified = Some(sums);
    }
    Ok(all)
}

/// The same of a part, which rolls.
pub(super) fn rolling(part_id: i64, per_s: i64, now: DateTime<Utc>) -> (i64, DateTime<Utc>, DateTime<Utc>) {
    let span = Window::Rolling(per_s).span(Tz::UTC, now);
    (part_id, span.since, span.end + TimeDelta::days(1))
}

/// The cells that count now, with both ends.
pub(super) fn window(budget_id: i64, budget: &Budget, now: DateTime<Utc>) -> (i64, DateTime<Utc>, DateTime<Utc>) {
    let span = budget.window.span(budget.time_zone, now);
    match budget.window {
        // Replicas' clocks may be a little ahead.
        Window::Rolling(_) => (budget_id, span.since, span.end + TimeDelta::days(1)),
        _ => (budget_id, span.since, span.start),
    }
}

pub(crate) fn shown(row: BudgetRow, standing: Standing, now: DateTime<Utc>) -> Shown {
    let (window, zone) = (row.budget.window, row.budget.time_zone);
    let left = (row.budget.cap() - standing.taken).max(0);
    let elapsed = window.elapsed(zone, now).num_seconds().max(1);
    let resets_at = window.resets_at(zone, now);
    let seconds = match standing.spent {
        ..=0 => None,
        spent => i64::try_from(left * i128::from(elapsed) / spent).ok(),
    };
    let exhausted_at = seconds.and_then(TimeDelta::try_seconds).and_then(|after| now.checked_add_signed(after));
    let rolls = window.length().is_some();
    let is_in_time = |at: &DateTime<Utc>| rolls || resets_at.is_none_or(|reset| *at < reset);
    Shown {
        left,
        window_start: window.span(zone, now).since,
        // A total has counted since 1970, which says nothing of its rate.
        burn: if window == Window::Total { 0 } else { standing.spent * 3600 / i128::from(elapsed) },
        exhausted_at: exhausted_at.filter(|_| window != Window::Total).filter(is_in_time),
        resets_at,
        standing,
        verified: None,
        row,
    }
}

impl Shown {
    pub fn unit(&self) -> Unit {
        self.row.budget.unit()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(window: &str, spent: i128, expected: (i128, Option<&str>)) {
        let budget = serde_json::from_value(json!({"limit_tokens": 1_000, "window": window})).unwrap();
        let row = BudgetRow { budget_id: 1, name: "b".into(), budget, is_file_managed: false, is_counted: true };
        let standing = Standing { spent, taken: spent, ..Standing::default() };
        let shown = shown(row, standing, "2026-11-23T06:00:00Z".parse().unwrap());
        let expected = (expected.0, expected.1.map(|at| at.parse().unwrap()));
        assert_eq!((shown.burn, shown.exhausted_at), expected, "{window} {spent}");
    }

    #[test]
    fn what_goes_on_as_before_ends_when_it_ends() {
        check("day", 0, (0, None));
        check("day", 120, (20, None));
        check("day", 600, (100, Some("2026-11-23T10:00:00Z")));
        check("day", 1_000, (166, Some("2026-11-23T06:00:00Z")));
        check("total", 500, (0, None));
    }
}
