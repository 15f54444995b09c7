//! A cron expression as crontab(5) reads it, on the clock on the wall: time zones are [`super::When`]'s.

use chrono::{Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike};

use super::field::{DAY, Field, HOUR, MINUTE, MONTH, SECOND, Values, WEEKDAY, YEAR};

/// What never comes within this time never comes: 29 February meets each weekday within 40 years.
const HORIZON_YEARS: i32 = 100;

/// Minute, hour, day of the month, month, weekday; with six fields a second goes first, with seven a year goes last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression {
    seconds: Values,
    minutes: Values,
    hours: Values,
    days: Values,
    months: Values,
    weekdays: Values,
    years: Option<Values>,
}

impl Expression {
    pub fn read(text: &str) -> Result<Self, String> {
        let fields: Vec<&str> = match nickname(text.trim())? {
            Some(fields) => fields.split(' ').collect(),
            None => text.split_whitespace().collect(),
        };
        let (second, rest, year) = match fields.as_slice() {
            [second, rest @ .., year] if rest.len() == 5 => (Some(*second), rest, Some(*year)),
            [second, rest @ ..] if rest.len() == 5 => (Some(*second), rest, None),
            rest => (None, rest, None),
        };
        let [minute, hour, day, month, weekday] = rest else {
            return Err(format!("it has {} fields", fields.len()));
        };
        Ok(Self {
            seconds: second.map_or_else(|| Ok(Field::only(0)), |second| SECOND.read(second))?,
            minutes: MINUTE.read(minute)?,
            hours: HOUR.read(hour)?,
            days: DAY.read(day)?,
            months: MONTH.read(month)?,
            weekdays: WEEKDAY.read(weekday)?,
            years: year.map(|year| YEAR.read(year)).transpose()?,
        })
    }

    /// The first time after `time`, in whole seconds.
    pub fn after(&self, time: NaiveDateTime) -> Option<NaiveDateTime> {
        let start = time.with_nanosecond(0)?.checked_add_signed(TimeDelta::seconds(1))?;
        let horizon = start.year() + HORIZON_YEARS;
        let (mut date, mut earliest) = (start.date(), start.time());
        while date.year() <= horizon {
            let found = if self.is_day(date) { self.time_from(earliest) } else { None };
            if let Some(time) = found {
                return Some(date.and_time(time));
            }
            date = self.later(date)?;
            earliest = NaiveTime::MIN;
        }
        None
    }

    /// The next day that could be one: the first of a later month when nothing of this month is wanted.
    fn later(&self, date: NaiveDate) -> Option<NaiveDate> {
        let wants_year = self.years.as_ref().is_none_or(|years| years.contains(date.year().unsigned_abs()));
        match (wants_year, self.months.contains(date.month())) {
            (true, true) => date.checked_add_days(Days::new(1)),
            (true, false) if date.month() < 12 => NaiveDate::from_ymd_opt(date.year(), date.month() + 1, 1),
            _ => NaiveDate::from_ymd_opt(date.year() + 1, 1, 1),
        }
    }

    /// A day of the month *or* a weekday when both are restricted, as crontab(5) has it; a field that begins with `*` is not a
    /// restriction, and then both must hold.
    fn is_day(&self, date: NaiveDate) -> bool {
        let day = self.days.contains(date.day());
        let weekday = self.weekdays.contains(date.weekday().num_days_from_sunday());
        let is_wanted = if self.days.starred || self.weekdays.starred { day && weekday } else { day || weekday };
        let wants_year = self.years.as_ref().is_none_or(|years| years.contains(date.year().unsigned_abs()));
        is_wanted && wants_year && self.months.contains(date.month())
    }

    /// The first time of a day that is not before `earliest`.
    fn time_from(&self, earliest: NaiveTime) -> Option<NaiveTime> {
        for hour in self.hours.at_least(earliest.hour()) {
            let first_minute = if hour == earliest.hour() { earliest.minute() } else { 0 };
            for minute in self.minutes.at_least(first_minute) {
                let is_first = hour == earliest.hour() && minute == earliest.minute();
                if let Some(second) = self.seconds.at_least(if is_first { earliest.second() } else { 0 }).next() {
                    return NaiveTime::from_hms_opt(hour, minute, second);
                }
            }
        }
        None
    }
}

/// `@daily` and its like; `None` when the text is no nickname.
fn nickname(text: &str) -> Result<Option<&'static str>, String> {
    Ok(Some(match text.to_ascii_lowercase().as_str() {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        other if other.starts_with('@') => {
            return Err(format!("{text} is not known; there are @yearly, @monthly, @weekly, @daily and @hourly"));
        }
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The days on which it fires, from Sunday, 22 November 2026, on.
    fn check(text: &str, expected: &[&str]) {
        let expression = Expression::read(text).unwrap();
        let mut at: NaiveDateTime = "2026-11-22T00:00:00".parse().unwrap();
        for day in expected {
            at = expression.after(at).unwrap();
            assert_eq!(at.date().to_string(), *day, "{text}");
        }
    }

    #[test]
    fn a_day_of_the_month_or_a_weekday_when_both_are_given() {
        check("0 9 13 * 5", &["2026-11-27", "2026-12-04", "2026-12-11", "2026-12-13", "2026-12-18"]);
        check("0 9 1,15 * mon", &["2026-11-23", "2026-11-30", "2026-12-01", "2026-12-07"]);
        check("0 9 13 * 0-7", &["2026-11-22", "2026-11-23"]);
        check("0 9 13 * *", &["2026-12-13", "2027-01-13"]);
        check("0 9 13 * ?", &["2026-12-13", "2027-01-13"]);
        check("0 9 ? * 5", &["2026-11-27", "2026-12-04"]);
        check("0 9 */2 * 5", &["2026-11-27", "2026-12-11", "2026-12-25"]);
    }

    #[test]
    fn weekends_that_end_with_7_or_0() {
        check("0 9 * * 6-7", &["2026-11-22", "2026-11-28", "2026-11-29"]);
        check("0 9 * * 6-0", &["2026-11-22", "2026-11-28", "2026-11-29"]);
        check("0 9 * * 5-7", &["2026-11-22", "2026-11-27", "2026-11-28", "2026-11-29"]);
        check("0 9 * * 1-7", &["2026-11-22", "2026-11-23"]);
    }

    #[test]
    fn rare_days_are_found_and_days_that_never_come_are_not() {
        check("0 0 29 2 *", &["2028-02-29", "2032-02-29"]);
        check("0 0 0 1 1 * 2031", &["2031-01-01"]);
        check("@weekly", &["2026-11-29", "2026-12-06"]);
        let never = Expression::read("0 0 30 2 *").unwrap();
        assert_eq!(never.after("2026-11-22T00:00:00".parse().unwrap()), None);
    }

    #[test]
    fn the_number_of_fields_is_said() {
        assert_eq!(Expression::read("* * * *").unwrap_err(), "it has 4 fields");
        assert_eq!(Expression::read("").unwrap_err(), "it has 0 fields");
        let said = Expression::read("@reboot").unwrap_err();
        assert!(said.starts_with("@reboot is not known; there are @yearly"), "{said}");
    }
}
