//! A guard paused a job.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    AlertKind, Budget, JobId,
    alert::{Field, Said},
    budget::{Guard, GuardBy},
};
use store::{PgConnection, alert::Key, job::Scope};

use super::raise::{Raised, raise};
use crate::Engine;

/// Of a budget that is never reset, it is told so often at most.
const AGAIN: TimeDelta = TimeDelta::days(1);

/// What a job did.
#[derive(Debug)]
pub struct Burn<'a> {
    pub job: JobId,
    /// Of the budget.
    pub name: &'a str,
    pub guard: &'a Guard,
    /// The budget as it is declared.
    pub whole: &'a Budget,
    /// Of what the guard looks at.
    pub part_id: i64,
    /// In the time that the guard looks back on.
    pub spent: i128,
    /// What its next request can cost.
    pub asked: i128,
}

impl Burn<'_> {
    fn rate(&self) -> i128 {
        self.guard.rate(self.whole.cap())
    }

    /// Why the job is paused, as it says itself.
    pub fn said(&self) -> String {
        let (unit, guard) = (self.whole.unit(), self.guard);
        let said = |amount: i128| unit.said(amount);
        format!(
            "budget {}: its guard lets a {} spend {} in {}; {} is spent, and the next request may cost {}",
            self.name,
            guard.by.as_str(),
            said(self.rate()),
            guard.per,
            said(self.spent),
            said(self.asked),
        )
    }
}

/// In the transaction that pauses the job. Once for each job, feature or team, and window of the budget.
pub async fn tell_of_burn(
    engine: &Engine,
    conn: &mut PgConnection,
    burn: &Burn<'_>,
    now: DateTime<Utc>,
) -> store::Result<()> {
    let team = store::job::get(conn, Scope::All, burn.job).await?.map(|job| job.team);
    raise(conn, &engine.settings.alerts, &raised(burn, team, now), now).await?;
    Ok(())
}

fn raised(burn: &Burn<'_>, team: Option<String>, now: DateTime<Utc>) -> Raised {
    let Burn { job, name, guard, whole, spent, .. } = burn;
    let unit = whole.unit();
    let until = whole.window.passes_at(whole.time_zone, now).unwrap_or(now + AGAIN);
    let of = team.as_ref().map_or_else(String::new, |team| format!(" of {team}"));
    let others = match guard.by {
        GuardBy::Job => "",
        GuardBy::Feature => " So is every other job of its feature that asks for more.",
        GuardBy::Team => " So is every other job of its team that asks for more.",
    };
    let text = format!(
        "It is paused.{others} The guard of budget {name} lets a {} spend {} in {}, which is {} % of the budget's {}. It goes on by \
         itself when its spend of the last {} has fallen below nine tenths of that, or when somebody approves it: `tollway jobs \
         approve {job}`.",
        guard.by.as_str(),
        unit.said(burn.rate()),
        guard.per,
        guard.percent,
        unit.said(whole.cap()),
        guard.per,
    );
    let fields = vec![
        Field::new("Job", job.to_string()),
        Field::new("Budget", *name),
        Field::new(&format!("Spent in {}", guard.per), unit.said(*spent)),
        Field::new("May spend", unit.said(burn.rate())),
    ];
    Raised {
        key: Key { kind: AlertKind::BurnRate, about: burn.part_id.to_string(), threshold: 0, since: now, until: Some(until) },
        object: job.to_string(),
        team,
        said: Said { title: format!("A job{of} burns budget {name}"), text, fields },
        silent: Vec::new(),
    }
}
