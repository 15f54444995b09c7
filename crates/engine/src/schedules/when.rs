//! When a schedule fires: a cron expression in a time zone.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

/// Days as cron numbers them; 7 is Sunday too. The parser's own numbers begin at 1, so names are put in their place.
const DAYS: [&str; 8] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadWhen {
    #[error(
        "{given:?} cannot be read: {reason}; it has 5 fields (minute hour day month weekday), or 6 with seconds first"
    )]
    Cron { given: String, reason: String },
    #[error("{0:?} is not a time zone of the IANA list, such as Europe/Berlin or UTC")]
    Zone(String),
    #[error("{0:?} never fires from now on")]
    Never(String),
}

#[derive(Debug)]
pub struct When {
    cron: cron::Schedule,
    zone: Tz,
    given: String,
}

impl When {
    pub fn read(given: &str, zone: &str) -> Result<Self, BadWhen> {
        let brief = |text: &str| text.chars().take(100).collect::<String>();
        let bad = |reason: String| BadWhen::Cron { given: brief(given), reason };
        let zone = Tz::from_str(zone).map_err(|_| BadWhen::Zone(brief(zone)))?;
        if given.len() > 200 {
            return Err(bad("it is longer than 200 characters".to_owned()));
        }
        let cron = cron::Schedule::from_str(&seconds_first(given)).map_err(|error| bad(error.to_string()))?;
        Ok(Self { cron, zone, given: given.to_owned() })
    }

    /// The first time after `now`.
    pub fn after(&self, now: DateTime<Utc>) -> Result<DateTime<Utc>, BadWhen> {
        let next = self.cron.after(&now.with_timezone(&self.zone)).next();
        next.map(|at| at.to_utc()).ok_or_else(|| BadWhen::Never(self.given.clone()))
    }
}

/// As the parser wants it: with seconds, and days of the week by name.
fn seconds_first(given: &str) -> String {
    let mut fields: Vec<String> = given.split_whitespace().map(str::to_owned).collect();
    if fields.len() == 5 {
        fields.insert(0, "0".to_owned());
    }
    if let Some(weekdays) = fields.get_mut(5) {
        *weekdays = weekdays.split(',').map(named).collect::<Vec<_>>().join(",");
    }
    fields.join(" ")
}

/// `1-5/2` as `Mon-Fri/2`; what is no number stays as it is.
fn named(part: &str) -> String {
    let (days, step) = match part.split_once('/') {
        Some((days, step)) => (days, Some(step)),
        None => (part, None),
    };
    let name = |day: &str| match day.parse::<usize>().ok().and_then(|n| DAYS.get(n)) {
        Some(name) => (*name).to_owned(),
        None => day.to_owned(),
    };
    let days = days.split('-').map(name).collect::<Vec<_>>().join("-");
    step.map_or(days.clone(), |step| format!("{days}/{step}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next two times after noon of Sunday, 22 November 2026.
    fn check(cron: &str, zone: &str, expected: [&str; 2]) {
        let when = When::read(cron, zone).unwrap();
        let first = when.after("2026-11-22T12:00:00Z".parse().unwrap()).unwrap();
        let second = when.after(first).unwrap();
        let expected: [DateTime<Utc>; 2] = expected.map(|at| at.parse().unwrap());
        assert_eq!([first, second], expected, "{cron}");
    }

    #[test]
    fn expressions_mean_what_cron_means_by_them() {
        check("30 6 * * *", "UTC", ["2026-11-23T06:30:00Z", "2026-11-24T06:30:00Z"]);
        check("30 6 * * *", "Europe/Berlin", ["2026-11-23T05:30:00Z", "2026-11-24T05:30:00Z"]);
        check("0 9 * * 1", "UTC", ["2026-11-23T09:00:00Z", "2026-11-30T09:00:00Z"]);
        check("0 9 * * 1-5/2", "UTC", ["2026-11-23T09:00:00Z", "2026-11-25T09:00:00Z"]);
        check("0 18 * * 0", "UTC", ["2026-11-22T18:00:00Z", "2026-11-29T18:00:00Z"]);
        check("0 18 * * 7", "UTC", ["2026-11-22T18:00:00Z", "2026-11-29T18:00:00Z"]);
        check("0 18 * * Fri,6", "UTC", ["2026-11-27T18:00:00Z", "2026-11-28T18:00:00Z"]);
        check("*/20 * * * * *", "UTC", ["2026-11-22T12:00:20Z", "2026-11-22T12:00:40Z"]);
    }

    /// Clocks go forward on 28 March 2027 at 02:00 and back on 31 October at 03:00.
    #[test]
    fn a_time_zone_that_changes_its_clocks_is_followed() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let when = When::read("0 9 * * *", "Europe/Berlin").unwrap();
        assert_eq!(when.after(at("2027-03-27T12:00:00Z")), Ok(at("2027-03-28T07:00:00Z")));
        assert_eq!(when.after(at("2027-10-30T12:00:00Z")), Ok(at("2027-10-31T08:00:00Z")));
    }

    #[test]
    fn what_cannot_be_or_never_comes_is_refused() {
        let now: DateTime<Utc> = "2026-11-22T12:00:00Z".parse().unwrap();
        for bad in ["", "* * * *", "61 * * * *", "nonsense", "* * * * 9", &"1,".repeat(200)] {
            assert!(matches!(When::read(bad, "UTC"), Err(BadWhen::Cron { .. })), "{bad}");
        }
        assert_eq!(When::read("* * * * *", "Mars/Olympus").unwrap_err(), BadWhen::Zone("Mars/Olympus".into()));
        for never in ["0 0 0 30 2 *", "0 0 12 1 1 * 2020"] {
            assert_eq!(When::read(never, "UTC").unwrap().after(now), Err(BadWhen::Never(never.into())));
        }
    }
}
