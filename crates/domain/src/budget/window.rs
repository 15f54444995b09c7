//! The time over which a budget counts. A charge belongs to the moment at which its money was reserved; that moment lies in one
//! *cell*, and a window is one cell or, where it rolls, many. All of it is arithmetic, so all replicas agree on it.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Length;

/// A rolling window moves in so many steps.
const STEPS: i64 = 60;
const SHORTEST_ROLLING: i64 = 60;
const LONGEST_ROLLING: i64 = 366 * 24 * 3600;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    Hour,
    Day,
    /// From Monday.
    Week,
    Month,
    /// Ending now.
    Rolling(Length),
    /// Never reset.
    Total,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadWindow {
    #[error(
        "{0:?} is not a window; use hour, day, week, month, total, or rolling with a duration, such as \"rolling 24h\""
    )]
    Word(String),
    #[error("a rolling window must be from 1 minute to 366 days long (got {0:?})")]
    Length(String),
}

/// A cell: what is reserved in it is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub start: DateTime<Utc>,
    /// Its first moment that is not in it.
    pub end: DateTime<Utc>,
    /// The start of the first cell that still counts while this one is the current one.
    pub since: DateTime<Utc>,
}

impl Span {
    pub fn contains(&self, at: DateTime<Utc>) -> bool {
        self.start <= at && at < self.end
    }
}

impl Window {
    /// The cell of this moment.
    pub fn span(self, zone: Tz, at: DateTime<Utc>) -> Span {
        let whole = |start, end| Span { start, end, since: start };
        match self {
            Self::Total => whole(DateTime::UNIX_EPOCH, DateTime::<Utc>::MAX_UTC),
            Self::Hour => {
                let offset = i64::from(zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc());
                let start = seconds((at.timestamp() + offset).div_euclid(3600) * 3600 - offset);
                whole(start, start + TimeDelta::hours(1))
            }
            Self::Rolling(length) => {
                let length = length.seconds();
                let step = (length / STEPS).max(1);
                let floor = |at: i64| seconds(at.div_euclid(step) * step);
                let start = floor(at.timestamp());
                // The cell in which the window begins counts whole.
                Span { start, end: start + TimeDelta::seconds(step), since: floor(at.timestamp() - length) }
            }
            Self::Day | Self::Week | Self::Month => {
                let mut date = self.first_date(at.with_timezone(&zone).date_naive());
                // Where clocks are put back over midnight, a date comes twice.
                while begins(zone, date) > at {
                    date = self.first_date(date - Days::new(1));
                }
                while begins(zone, self.next_date(date)) <= at {
                    date = self.next_date(date);
                }
                whole(begins(zone, date), begins(zone, self.next_date(date)))
            }
        }
    }

    /// When there is money again at the earliest; never, for a total.
    pub fn resets_at(self, zone: Tz, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        (self != Self::Total).then(|| self.span(zone, at).end)
    }

    /// When nothing of what is spent now counts any more; never, for a total.
    pub fn passes_at(self, zone: Tz, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Rolling(length) => Some(at + TimeDelta::seconds(length.seconds())),
            _ => self.resets_at(zone, at),
        }
    }

    /// For how long it has counted at this moment.
    pub fn elapsed(self, zone: Tz, at: DateTime<Utc>) -> TimeDelta {
        match self {
            Self::Rolling(length) => TimeDelta::seconds(length.seconds()),
            _ => at - self.span(zone, at).start,
        }
    }

    fn first_date(self, date: NaiveDate) -> NaiveDate {
        match self {
            Self::Week => date - Days::new(u64::from(date.weekday().num_days_from_monday())),
            Self::Month => date - Days::new(u64::from(date.day0())),
            _ => date,
        }
    }

    fn next_date(self, first: NaiveDate) -> NaiveDate {
        match self {
            Self::Week => first + Days::new(7),
            Self::Month => first + Months::new(1),
            _ => first + Days::new(1),
        }
    }
}

fn seconds(at: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(at, 0).unwrap_or(DateTime::UNIX_EPOCH)
}

/// The first moment of a date. Clocks that are put forward may skip midnight, and once an island skipped a whole day.
fn begins(zone: Tz, date: NaiveDate) -> DateTime<Utc> {
    let midnight = NaiveDateTime::from(date);
    let later = |quarters: i64| zone.from_local_datetime(&(midnight + TimeDelta::minutes(15 * quarters))).earliest();
    (0..=100).find_map(later).map_or_else(|| midnight.and_utc(), |at| at.to_utc())
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hour => f.write_str("hour"),
            Self::Day => f.write_str("day"),
            Self::Week => f.write_str("week"),
            Self::Month => f.write_str("month"),
            Self::Total => f.write_str("total"),
            Self::Rolling(length) => write!(f, "rolling {length}"),
        }
    }
}

impl FromStr for Window {
    type Err = BadWindow;

    fn from_str(text: &str) -> Result<Self, BadWindow> {
        let brief = || text.chars().take(40).collect::<String>();
        Ok(match text {
            "hour" => Self::Hour,
            "day" => Self::Day,
            "week" => Self::Week,
            "month" => Self::Month,
            "total" => Self::Total,
            _ => {
                let length = text.strip_prefix("rolling").map(str::trim).ok_or_else(|| BadWindow::Word(brief()))?;
                let length: Length = length.parse().map_err(|_| BadWindow::Word(brief()))?;
                if !(SHORTEST_ROLLING..=LONGEST_ROLLING).contains(&length.seconds()) {
                    return Err(BadWindow::Length(brief()));
                }
                Self::Rolling(length)
            }
        })
    }
}

impl Window {
    /// Its seconds, of a month that is short and clocks that nobody changes; a total has no end.
    pub fn seconds(self) -> Option<i64> {
        match self {
            Self::Hour => Some(3_600),
            Self::Day => Some(86_400),
            Self::Week => Some(7 * 86_400),
            Self::Month => Some(28 * 86_400),
            Self::Rolling(length) => Some(length.seconds()),
            Self::Total => None,
        }
    }

    /// A rolling window's length.
    pub fn length(self) -> Option<Length> {
        match self {
            Self::Rolling(length) => Some(length),
            _ => None,
        }
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(window: &str, zone: &str, at: &str, expected: [&str; 2]) {
        let window: Window = window.parse().unwrap();
        let span = window.span(zone.parse().unwrap(), at.parse().unwrap());
        let expected = expected.map(|at| at.parse::<DateTime<Utc>>().unwrap());
        assert_eq!([span.start, span.end], expected, "{window} {zone} {at}");
    }

    #[test]
    fn windows_begin_where_their_zone_says() {
        check("month", "UTC", "2026-11-23T03:00:00Z", ["2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"]);
        check("month", "Europe/Berlin", "2026-11-30T23:00:00Z", ["2026-11-30T23:00:00Z", "2026-12-31T23:00:00Z"]);
        check("week", "America/New_York", "2026-11-23T03:00:00Z", ["2026-11-16T05:00:00Z", "2026-11-23T05:00:00Z"]);
        check("day", "Asia/Kolkata", "2026-11-23T18:30:00Z", ["2026-11-23T18:30:00Z", "2026-11-24T18:30:00Z"]);
        check("hour", "Asia/Kolkata", "2026-11-23T18:29:59Z", ["2026-11-23T17:30:00Z", "2026-11-23T18:30:00Z"]);
    }

    /// 23 and 25 hours long; and where clocks go forward at midnight, a day that begins at one.
    #[test]
    fn days_on_which_clocks_change() {
        check("day", "Europe/Berlin", "2026-03-29T12:00:00Z", ["2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"]);
        check("day", "Europe/Berlin", "2026-10-25T12:00:00Z", ["2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"]);
        check("day", "Africa/Cairo", "2026-04-24T12:00:00Z", ["2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z"]);
        check("day", "Pacific/Apia", "2011-12-31T00:00:00Z", ["2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"]);
        // Two hours of the same name.
        check("hour", "Europe/Berlin", "2026-10-25T00:30:00Z", ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"]);
        check("hour", "Europe/Berlin", "2026-10-25T01:30:00Z", ["2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"]);
    }

    #[test]
    fn a_rolling_window_counts_its_whole_length_and_at_most_a_step_more() {
        let (window, at) = ("rolling 24h".parse::<Window>().unwrap(), "2026-11-23T03:00:01Z".parse().unwrap());
        let span = window.span(Tz::UTC, at);
        assert!(span.contains(at));
        let back = at - span.since;
        assert!(back >= TimeDelta::hours(24) && back <= TimeDelta::hours(24) + TimeDelta::minutes(24), "{back}");
        assert_eq!(window.resets_at(Tz::UTC, at), Some(span.end));
        assert_eq!(Window::Total.resets_at(Tz::UTC, at), None);
    }

    #[test]
    fn a_window_is_read_as_it_is_shown() {
        for text in ["hour", "day", "week", "month", "total", "rolling 90m", "rolling 7d", "rolling 61s"] {
            assert_eq!(text.parse::<Window>().unwrap().to_string(), text);
        }
        for text in ["", "year", "rolling", "rolling 5", "rolling 10s", "rolling 400d", "rolling -1h"] {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
    }

    proptest! {
        /// Each moment is in one cell, and the next cell begins where it ends.
        #[test]
        fn cells_follow_one_another(
            at in 0i64..4_000_000_000,
            zone in proptest::sample::select(vec![
                "UTC", "Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia", "Asia/Kathmandu", "Africa/Cairo", "America/Havana",
            ]),
            window in proptest::sample::select(vec!["day", "week", "month", "rolling 24h", "rolling 61s"]),
        ) {
            let (zone, window, at): (Tz, Window, _) = (zone.parse().unwrap(), window.parse().unwrap(), seconds(at));
            let span = window.span(zone, at);
            prop_assert!(span.contains(at), "{span:?}");
            prop_assert_eq!(window.span(zone, span.start), span);
            prop_assert_eq!(window.span(zone, span.end - TimeDelta::microseconds(1)), span);
            prop_assert_eq!(window.span(zone, span.end).start, span.end);
        }
    }
}
