//! When a schedule fires: a cron expression in a time zone.
//!
//! Each wall-clock time fires once. Where clocks go back, a time that comes twice fires at its first; where they go forward, the
//! times that are skipped fire together, once, at the first moment after the gap.

mod expression;
mod field;

use std::str::FromStr;

use chrono::{DateTime, LocalResult, NaiveDateTime, TimeZone, Utc};
use chrono_tz::{GapInfo, Tz};

use self::expression::Expression;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadWhen {
    #[error(
        "{given:?} cannot be read: {reason}; a cron expression has 5 fields (minute hour day month weekday), or 6 with \
         seconds first"
    )]
    Cron { given: String, reason: String },
    #[error("{0:?} is not a time zone of the IANA list, such as Europe/Berlin or UTC")]
    Zone(String),
    #[error("{0:?} never fires from now on")]
    Never(String),
}

#[derive(Debug)]
pub struct When {
    cron: Expression,
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
        Ok(Self { cron: Expression::read(given).map_err(bad)?, zone, given: given.to_owned() })
    }

    /// The first time after `now`, never `now` itself.
    pub fn after(&self, now: DateTime<Utc>) -> Result<DateTime<Utc>, BadWhen> {
        let mut wall = now.with_timezone(&self.zone).naive_local();
        // Later walls have later moments or the same one, so the first that is later than `now` is the next. In an hour that
        // comes twice, walls are passed over whose moment was in the hour's first pass.
        while let Some(next) = self.cron.after(wall) {
            match self.moment(next) {
                Some(moment) if moment > now => return Ok(moment),
                _ => wall = next,
            }
        }
        Err(BadWhen::Never(self.given.clone()))
    }

    /// When clocks in the zone show `wall` for the first time, or the end of the gap that `wall` lies in.
    fn moment(&self, wall: NaiveDateTime) -> Option<DateTime<Utc>> {
        match self.zone.from_local_datetime(&wall) {
            LocalResult::Single(at) => Some(at.to_utc()),
            LocalResult::Ambiguous(first, second) => Some(first.to_utc().min(second.to_utc())),
            LocalResult::None => GapInfo::new(&wall, &self.zone)?.end.map(|end| end.to_utc()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// The next times after `from`.
    #[track_caller]
    fn check_from(from: &str, cron: &str, zone: &str, expected: &[&str]) {
        let when = When::read(cron, zone).unwrap();
        let mut now = at(from);
        for expected in expected {
            now = when.after(now).unwrap();
            assert_eq!(now, at(expected), "{cron} in {zone}");
        }
    }

    /// The next two times after noon of Sunday, 22 November 2026.
    #[track_caller]
    fn check(cron: &str, zone: &str, expected: [&str; 2]) {
        check_from("2026-11-22T12:00:00Z", cron, zone, &expected);
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
        let when = When::read("0 9 * * *", "Europe/Berlin").unwrap();
        assert_eq!(when.after(at("2027-03-27T12:00:00Z")), Ok(at("2027-03-28T07:00:00Z")));
        assert_eq!(when.after(at("2027-10-30T12:00:00Z")), Ok(at("2027-10-31T08:00:00Z")));
    }

    #[test]
    fn an_hour_that_comes_twice_fires_once() {
        let berlin = "Europe/Berlin";
        // 02:00 and 02:30 of summer time, then 03:00 of winter time; also when asked from inside the second pass.
        let from_first = ["2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T02:00:00Z"];
        check_from("2026-10-24T23:59:00Z", "*/30 * * * *", berlin, &from_first);
        check_from("2026-10-25T01:20:00Z", "*/30 * * * *", berlin, &["2026-10-25T02:00:00Z", "2026-10-25T02:30:00Z"]);
        check_from("2026-10-25T01:00:00Z", "*/20 * * * * *", berlin, &["2026-10-25T02:00:00Z"]);
        check_from("2026-10-24T12:00:00Z", "30 2 * * *", berlin, &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
        // Lord Howe turns its clocks by half an hour.
        let lord_howe = ["2027-04-03T14:45:00Z", "2027-04-04T15:15:00Z"];
        check_from("2027-04-03T12:00:00Z", "45 1 * * *", "Australia/Lord_Howe", &lord_howe);
    }

    #[test]
    fn an_hour_that_is_skipped_fires_at_its_end() {
        let berlin = "Europe/Berlin";
        // Neither a day nor a week is lost.
        check_from("2027-03-27T12:00:00Z", "30 2 * * *", berlin, &["2027-03-28T01:00:00Z", "2027-03-29T00:30:00Z"]);
        check_from("2027-03-27T12:00:00Z", "30 2 * * 0", berlin, &["2027-03-28T01:00:00Z", "2027-04-04T00:30:00Z"]);
        let halves = ["2027-03-28T00:30:00Z", "2027-03-28T01:00:00Z", "2027-03-28T01:30:00Z"];
        check_from("2027-03-28T00:00:00Z", "*/30 * * * *", berlin, &halves);
        check_from("2027-03-28T00:59:59Z", "15 * * * *", berlin, &["2027-03-28T01:00:00Z", "2027-03-28T01:15:00Z"]);
        let lord_howe = ["2027-10-02T15:30:00Z", "2027-10-03T15:15:00Z"];
        check_from("2027-10-02T12:00:00Z", "15 2 * * *", "Australia/Lord_Howe", &lord_howe);
        // A whole day that a country left out.
        let samoa = ["2011-12-29T19:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T19:00:00Z"];
        check_from("2011-12-29T12:00:00Z", "0 9 * * *", "Pacific/Apia", &samoa);
    }

    const CRONS: [&str; 8] = [
        "*/30 * * * *",
        "15 * * * *",
        "30 2 * * *",
        "0,45 1-3 * * *",
        "0 0 * * *",
        "7/13 * * * * *",
        "30 2 * * 0",
        "0 9 13 * 5",
    ];

    proptest! {
        /// In any zone, from any moment: times ascend, none is missed, and no wall-clock time fires twice.
        #[test]
        fn times_ascend_and_each_wall_clock_time_fires_once(
            zone in 0..chrono_tz::TZ_VARIANTS.len(),
            seconds in 0i64..(2037 - 1970) * 31_556_952,
            cron in 0..CRONS.len(),
        ) {
            let zone = chrono_tz::TZ_VARIANTS[zone];
            let start = DateTime::from_timestamp(seconds, 0).unwrap();
            check_run(zone, start, CRONS[cron])?;
        }

        /// The same where it matters: within a day of a change of clocks.
        #[test]
        fn a_change_of_clocks_neither_repeats_nor_loses_a_time(
            zone in prop::sample::select(vec![
                "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "America/St_Johns", "Antarctica/Troll",
                "Africa/Casablanca", "Asia/Tehran", "America/Havana", "Asia/Gaza", "Pacific/Apia",
            ]),
            year in 2005i32..2037,
            nth in 0usize..4,
            before in 0i64..90_000,
            cron in 0..CRONS.len(),
        ) {
            let zone: Tz = zone.parse().unwrap();
            if let Some(change) = changes(zone, year).get(nth) {
                check_run(zone, *change - TimeDelta::seconds(before), CRONS[cron])?;
            }
        }
    }

    /// The hours of a year in which the zone's offset changes.
    fn changes(zone: Tz, year: i32) -> Vec<DateTime<Utc>> {
        let first = Utc.with_ymd_and_hms(year, 1, 1, 0, 0, 0).unwrap();
        let offset = |at: DateTime<Utc>| at.with_timezone(&zone).naive_local() - at.naive_utc();
        let hours = (0..366 * 24).map(|hour| first + TimeDelta::hours(hour));
        hours.filter(|at| offset(*at) != offset(*at + TimeDelta::hours(1))).collect()
    }

    fn check_run(zone: Tz, start: DateTime<Utc>, cron: &str) -> Result<(), TestCaseError> {
        let when = When::read(cron, zone.name()).unwrap();
        let mut now = start;
        let mut fired = Vec::new();
        for _ in 0..40 {
            let next = when.after(now).unwrap();
            prop_assert!(next > now, "{cron} in {zone}: {next} is not after {now}");
            // Asked from anywhere in between, it is the same: a tick that is late changes nothing.
            let between = now + (next - now) / 2;
            prop_assert_eq!(when.after(between).unwrap(), next, "{} in {}", cron, zone);
            fired.push(next);
            now = next;
        }
        let walls: HashSet<_> = fired.iter().map(|at| at.with_timezone(&zone).naive_local()).collect();
        prop_assert_eq!(walls.len(), fired.len(), "{} in {}: a wall-clock time fired twice: {:?}", cron, zone, fired);
        // Every wall-clock time between two firings either fired earlier or has its moment at one of them.
        for pair in fired.windows(2) {
            let mut wall = pair[0].with_timezone(&zone).naive_local();
            let last = pair[1].with_timezone(&zone).naive_local();
            while let Some(next) = when.cron.after(wall).filter(|next| *next < last) {
                let moment = when.moment(next).unwrap();
                prop_assert!(moment <= pair[0] || moment == pair[1], "{cron} in {zone}: {next} was lost");
                wall = next;
            }
        }
        Ok(())
    }

    #[test]
    fn what_cannot_be_or_never_comes_is_refused() {
        let now: DateTime<Utc> = "2026-11-22T12:00:00Z".parse().unwrap();
        for bad in ["", "* * * *", "61 * * * *", "nonsense", "* * * * 9", "0 6 L * *", "0 6 * * 1#2", &"1,".repeat(200)]
        {
            assert!(matches!(When::read(bad, "UTC"), Err(BadWhen::Cron { .. })), "{bad}");
        }
        assert_eq!(When::read("* * * * *", "Mars/Olympus").unwrap_err(), BadWhen::Zone("Mars/Olympus".into()));
        for never in ["0 0 0 30 2 *", "0 0 12 1 1 * 2020"] {
            assert_eq!(When::read(never, "UTC").unwrap().after(now), Err(BadWhen::Never(never.into())));
        }
    }
}
