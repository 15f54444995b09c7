//! The burn rate of budgets: the spend of the last hour. A rolling window has cells for it. For other windows a chore
//! stores a sample every minute, so that all replicas report the same rate, even right after a start.

use chrono::{DateTime, TimeDelta, Utc};
use domain::budget::Window;
use store::{
    PgConnection,
    budget::{BudgetRow, Sample, Standing},
};

use super::windows::cells;
use crate::AdmissionControl;

const LOOK_BACK: TimeDelta = TimeDelta::hours(1);
/// The spend of a shorter span counts as the spend of this span.
const MIN_SAMPLE_SPAN: TimeDelta = TimeDelta::minutes(1);
/// A shorter observation is not projected onto the coming days.
const MIN_PROJECTION_SPAN: TimeDelta = TimeDelta::minutes(10);
/// The last hour of a window is still examined during the hour after its reset.
const RETENTION: TimeDelta = TimeDelta::hours(3);

/// What was spent since then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burnt {
    pub spent: i128,
    pub since: DateTime<Utc>,
}

impl Burnt {
    pub fn per_hour(self, now: DateTime<Utc>) -> i128 {
        self.in_seconds(3_600, now)
    }

    /// The spend of the next `seconds` at this rate.
    pub fn in_seconds(self, seconds: i64, now: DateTime<Utc>) -> i128 {
        self.spent.max(0) * i128::from(seconds) / self.elapsed(now)
    }

    /// When `left` is used up at this rate.
    pub fn ends_at(self, left: i128, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let seconds = i64::try_from((left * self.elapsed(now)).checked_div(self.spent.max(0))?).ok()?;
        now.checked_add_signed(TimeDelta::try_seconds(seconds)?)
    }

    /// Whether the observation is long enough to be projected.
    pub fn is_telling(self, now: DateTime<Utc>) -> bool {
        now - self.since >= MIN_PROJECTION_SPAN
    }

    fn elapsed(self, now: DateTime<Utc>) -> i128 {
        (now - self.since).max(MIN_SAMPLE_SPAN).num_seconds().into()
    }
}

/// What was spent in the hour before each moment, or since the first sample in it: a budget has one since its past was counted.
pub(super) async fn lately(
    conn: &mut PgConnection,
    asked: &[(BudgetRow, DateTime<Utc>)],
    standings: &[Standing],
) -> store::Result<Vec<Option<Burnt>>> {
    let (rolling, others): (Vec<_>, Vec<_>) = asked.iter().partition(|(row, _)| row.budget.window.length().is_some());
    let cells: Vec<_> = rolling.iter().map(|(row, at)| last_cells(row, *at)).collect();
    let hours: Vec<_> = others.iter().map(|(row, at)| (row.budget_id, *at - LOOK_BACK)).collect();
    let mut of_cells = store::budget::standing(conn, &cells).await?.into_iter().zip(cells);
    let mut samples = store::budget::first_samples(conn, &hours).await?.into_iter();
    let each = asked.iter().zip(standings).map(|((row, at), standing)| match row.budget.window {
        Window::Rolling(_) => of_cells.next().map(|(lately, (_, since, _))| Burnt { spent: lately.spent, since }),
        _ => of_window(row, standing.spent, samples.next().flatten(), *at),
    });
    Ok(each.collect())
}

/// The cells of a window that rolls, as far as they are of the last hour.
fn last_cells(row: &BudgetRow, at: DateTime<Utc>) -> (i64, DateTime<Utc>, DateTime<Utc>) {
    let (window, zone) = (row.budget.window, row.budget.time_zone);
    let (id, _, until) = cells(row.budget_id, &row.budget, at);
    let lately = window.elapsed(zone, at).min(LOOK_BACK);
    (id, window.span(zone, at - lately).start, until)
}

/// Of a window that begins and ends. Where nothing was sampled, since it began; of a total nothing is known then.
fn of_window(row: &BudgetRow, spent: i128, sample: Option<Sample>, at: DateTime<Utc>) -> Option<Burnt> {
    let (window, zone) = (row.budget.window, row.budget.time_zone);
    let start = window.span(zone, at).start;
    // One before it would be of the window before.
    match sample.filter(|sample| sample.at >= start) {
        Some(sample) if at - start > LOOK_BACK => Some(Burnt { spent: spent - sample.spent, since: sample.at }),
        // It has counted since 1970.
        _ if window == Window::Total => None,
        _ => Some(Burnt { spent, since: start }),
    }
}

/// Stores a sample of every budget's spend and removes old samples. A chore.
pub async fn sample(control: &AdmissionControl) -> store::Result<()> {
    let now = control.clock.now();
    let mut conn = control.pools.work.acquire().await?;
    let mut rows = store::budget::active(&mut conn).await?;
    rows.retain(|row| row.is_counted && row.budget.window.length().is_none());
    let windows: Vec<_> = rows.iter().map(|row| cells(row.budget_id, &row.budget, now)).collect();
    let standings = store::budget::standing(&mut conn, &windows).await?;
    let sample =
        |(row, standing): (&BudgetRow, &Standing)| Sample { budget_id: row.budget_id, at: now, spent: standing.spent };
    let samples: Vec<Sample> = rows.iter().zip(&standings).map(sample).collect();
    store::budget::keep_samples(&mut conn, &samples).await?;
    store::budget::forget_samples(&mut conn, now - RETENTION).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use store::PgPool;

    use super::*;
    use crate::{budgets, testing};

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn row(window: &str) -> BudgetRow {
        let budget = serde_json::from_value(json!({"limit_tokens": 1_000, "window": window})).unwrap();
        BudgetRow { budget_id: 1, name: "b".into(), budget, is_file_managed: false, is_counted: true }
    }

    /// Of 600 tokens spent at six, when so many were sampled at this time.
    fn check(window: &str, sampled: Option<(&str, i128)>, expected: Option<(&str, i128)>) {
        let sample = sampled.map(|(time, spent)| Sample { budget_id: 1, at: at(time), spent });
        let burnt = of_window(&row(window), 600, sample, at("2026-11-23T06:00:00Z"));
        let expected = expected.map(|(since, spent)| Burnt { since: at(since), spent });
        assert_eq!(burnt, expected, "{window} {sampled:?}");
    }

    #[test]
    fn the_last_hour_says_how_fast_it_burns() {
        let since_midnight = Some(("2026-11-23T00:00:00Z", 600));
        check("day", Some(("2026-11-23T05:00:30Z", 550)), Some(("2026-11-23T05:00:30Z", 50)));
        check("total", Some(("2026-11-23T05:00:30Z", 550)), Some(("2026-11-23T05:00:30Z", 50)));
        check("day", None, since_midnight);
        check("day", Some(("2026-11-23T05:55:00Z", 550)), Some(("2026-11-23T05:55:00Z", 50)));
        check("month", Some(("2026-10-31T23:59:00Z", 550)), Some(("2026-11-01T00:00:00Z", 600)));
        check("total", None, None);
        check("hour", Some(("2026-11-23T05:30:00Z", 550)), Some(("2026-11-23T06:00:00Z", 600)));
    }

    #[test]
    fn what_goes_on_as_it_did_ends_when_it_ends() {
        let now = at("2026-11-23T06:00:00Z");
        let burnt = Burnt { spent: 50, since: at("2026-11-23T05:30:00Z") };
        assert_eq!((burnt.per_hour(now), burnt.in_seconds(60, now)), (100, 1));
        assert_eq!(burnt.ends_at(150, now), Some(at("2026-11-23T07:30:00Z")));
        assert_eq!(Burnt { spent: 0, ..burnt }.ends_at(150, now), None);
        assert_eq!(Burnt { spent: -5, ..burnt }.per_hour(now), 0, "a correction");
    }

    #[test]
    fn seconds_are_taken_for_a_minute_and_say_nothing_of_the_days_to_come() {
        let now = at("2026-11-23T06:00:00Z");
        let since = |time: &str| Burnt { spent: 50, since: at(time) };
        for time in ["2026-11-23T06:00:00Z", "2026-11-23T05:59:55Z", "2026-11-23T05:59:00Z"] {
            assert_eq!(since(time).per_hour(now), 3_000, "{time}");
        }
        assert_eq!(since("2026-11-23T05:58:00Z").per_hour(now), 1_500);
        assert!(!since("2026-11-23T05:50:01Z").is_telling(now));
        assert!(since("2026-11-23T05:50:00Z").is_telling(now));
    }

    /// An hour of a window of six has ten cells.
    #[test]
    fn a_window_that_rolls_is_looked_at_by_its_cells() {
        let (_, since, until) = last_cells(&row("rolling 6h"), at("2026-11-23T06:03:00Z"));
        assert_eq!(since, at("2026-11-23T05:00:00Z"));
        assert!(until > at("2026-11-23T06:03:00Z"));
        let (_, since, _) = last_cells(&row("rolling 30m"), at("2026-11-23T06:03:00Z"));
        assert_eq!(since, at("2026-11-23T05:33:00Z"));
    }

    #[sqlx::test(migrations = "../../migrations")]
    async fn a_budget_tells_by_its_samples_how_fast_it_burns(pool: PgPool) {
        let control = testing::control(&pool).await;
        let spend = async |id: i64, cell: &str, amount: i64| {
            let spent = "insert into budget_use (budget_id, cell, worker_id, spent) values ($1, $2::timestamptz, 1, $3)
                         on conflict (budget_id, cell, worker_id) do update set spent = budget_use.spent + excluded.spent";
            sqlx::query(spent).bind(id).bind(at(cell)).bind(amount).execute(&pool).await.unwrap();
        };
        let total = row("total").budget;
        budgets::set(&control, "b", &total, "k").await.unwrap();
        let burn = async || budgets::show(&control).await.unwrap().remove(0);
        let id = burn().await.row.budget_id;
        let long_ago = "1970-01-01T00:00:00Z";
        assert_eq!((burn().await.burn, burn().await.exhausted_at), (0, None), "its past is not counted");
        budgets::revision_watch::count(&control).await.unwrap();
        spend(id, long_ago, 400).await;
        assert_eq!(burn().await.burn, 400 * 60, "in what is taken for a minute");
        sample(&control).await.unwrap();
        sqlx::query("delete from budget_sample where spent = 0").execute(&pool).await.unwrap();
        sqlx::query("update budget_sample set at = at - interval '30 minutes'").execute(&pool).await.unwrap();
        spend(id, long_ago, 300).await;
        let shown = burn().await;
        // 300 in half an hour, and some seconds that this test takes.
        assert!((590..=600).contains(&shown.burn), "{shown:?}");
        let left = shown.exhausted_at.unwrap() - control.clock.now();
        assert!((TimeDelta::minutes(29)..TimeDelta::minutes(31)).contains(&left), "{left}");
        sqlx::query("update budget_sample set at = at - interval '3 hours'").execute(&pool).await.unwrap();
        sample(&control).await.unwrap();
        let kept: i64 = sqlx::query_scalar("select count(*) from budget_sample").fetch_one(&pool).await.unwrap();
        assert_eq!(kept, 1);
    }
}
