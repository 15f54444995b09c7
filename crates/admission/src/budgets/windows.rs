//! Which cells of a budget count at a moment.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use domain::{
    Budget,
    budget::{Length, Window},
};

/// The cells of a part, whose window rolls, that count now, with both ends.
pub fn rolling_cells(part_id: i64, per: Length, now: DateTime<Utc>) -> (i64, DateTime<Utc>, DateTime<Utc>) {
    let span = Window::Rolling(per).span(Tz::UTC, now);
    (part_id, span.since, span.end + TimeDelta::days(1))
}

/// The cells that count now, with both ends.
pub fn cells(budget_id: i64, budget: &Budget, now: DateTime<Utc>) -> (i64, DateTime<Utc>, DateTime<Utc>) {
    let span = budget.window.span(budget.time_zone, now);
    match budget.window {
        // Replicas' clocks may be a little ahead.
        Window::Rolling(_) => (budget_id, span.since, span.end + TimeDelta::days(1)),
        _ => (budget_id, span.since, span.start),
    }
}
