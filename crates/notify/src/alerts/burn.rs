//! A guard paused a job.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    AlertKind, Budget, JobId,
    alert::{Field, Said},
    budget::{Guard, GuardBy},
};
use store::{PgConnection, alert::Key, job::Scope};

use super::{Raised, raise::raise};
use crate::Notifier;

/// Of a budget that is never reset, it is told so often at most.
const REPEAT_INTERVAL: TimeDelta = TimeDelta::days(1);

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
    /// Of calls under way, what they can cost.
    pub held: i128,
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
        let held = match self.held {
            ..=0 => String::new(),
            held => format!(", calls under way may cost {}", said(held)),
        };
        format!(
            "budget {}: its guard lets a {} spend {} in {}; {} is spent{held}, and the next request may cost {}",
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
    notifier: &Notifier,
    conn: &mut PgConnection,
    burn: &Burn<'_>,
    now: DateTime<Utc>,
) -> store::Result<()> {
    let team = store::job::get(conn, Scope::All, burn.job).await?.map(|job| job.team);
    raise(conn, &notifier.receivers, &raised(burn, team, now), now).await?;
    Ok(())
}

fn raised(burn: &Burn<'_>, team: Option<String>, now: DateTime<Utc>) -> Raised {
    let Burn { job, name, guard, whole, spent, held, .. } = burn;
    let unit = whole.unit();
    let until = whole.window.passes_at(whole.time_zone, now).unwrap_or(now + REPEAT_INTERVAL);
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
    let mut fields = vec![
        Field::new("Job", job.to_string()),
        Field::new("Budget", *name),
        Field::new(&format!("Spent in {}", guard.per), unit.said(*spent)),
        Field::new("May spend", unit.said(burn.rate())),
    ];
    if *held > 0 {
        fields.push(Field::new("Held by calls under way", unit.said(*held)));
    }
    Raised {
        key: Key {
            kind: AlertKind::BurnRate,
            about: burn.part_id.to_string(),
            threshold: 0,
            since: now,
            until: Some(until),
        },
        object: job.to_string(),
        team,
        said: Said { title: format!("A job{of} burns budget {name}"), text, fields },
        silent: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::alerts::message::tests::assert_sent;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn check(window: &str, by: &str, until: &str) -> Raised {
        let guard = json!({"percent": 10, "per": "1h", "by": by});
        let whole: Budget =
            serde_json::from_value(json!({"limit_usd": "24000", "window": window, "guard": guard})).unwrap();
        let guard = whole.guard.unwrap();
        let dollar = 1_000_000_000_000;
        let (spent, held, asked) = (2_396 * dollar, 3 * dollar, 5 * dollar);
        let burn = Burn { job: JobId(7), name: "month", guard: &guard, whole: &whole, part_id: 3, spent, held, asked };
        let now = at("2026-11-23T12:00:00Z");
        let raised = raised(&burn, Some("search".into()), now);
        let expected =
            Key { kind: AlertKind::BurnRate, about: "3".into(), threshold: 0, since: now, until: Some(at(until)) };
        assert_eq!(raised.key, expected);
        raised
    }

    #[test]
    fn a_burn_is_told_once_in_a_window_and_says_what_to_do() {
        let raised = check("month", "job", "2026-12-01T00:00:00Z");
        assert_eq!(raised.said.title, "A job of search burns budget month");
        assert_eq!(
            raised.said.text,
            format!(
                "It is paused. The guard of budget month lets a job spend $2400.00 in 1h, which is 10 % of the budget's $24000.00. It \
                 goes on by itself when its spend of the last 1h has fallen below nine tenths of that, or when somebody approves it: \
                 `tollway jobs approve {}`.",
                JobId(7)
            )
        );
        let fields: Vec<_> =
            raised.said.fields.iter().map(|field| (field.name.as_str(), field.value.as_str())).collect();
        assert_eq!(fields[1..4], [("Budget", "month"), ("Spent in 1h", "$2396.00"), ("May spend", "$2400.00")]);
        assert_sent("burn_rate", &raised);
        let of_feature = check("rolling 48h", "feature", "2026-11-25T12:00:00Z");
        assert!(of_feature.said.text.contains("every other job of its feature"), "{}", of_feature.said.text);
        check("total", "team", "2026-11-24T12:00:00Z");
    }
}
