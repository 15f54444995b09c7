//! One field of a cron expression: a list of numbers, names and ranges, each with a step.

use std::ops::RangeInclusive;

/// What a field counts, and which words stand for its numbers.
pub struct Field {
    pub name: &'static str,
    pub range: RangeInclusive<u32>,
    /// In full; three letters suffice. The first stands for the range's first number.
    names: &'static [&'static str],
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    DayOfMonth,
    /// 0 and 7 are Sunday, and a range may run over the end of the week.
    Weekday,
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

pub const SECOND: Field = plain("second", 0..=59);
pub const MINUTE: Field = plain("minute", 0..=59);
pub const HOUR: Field = plain("hour", 0..=23);
pub const DAY: Field = Field { kind: Kind::DayOfMonth, ..plain("day of the month", 1..=31) };
pub const MONTH: Field = Field { names: &MONTHS, ..plain("month", 1..=12) };
pub const WEEKDAY: Field = Field { names: &WEEKDAYS, kind: Kind::Weekday, ..plain("weekday", 0..=6) };
pub const YEAR: Field = plain("year", 1970..=2199);

const fn plain(name: &'static str, range: RangeInclusive<u32>) -> Field {
    Field { name, range, names: &[], kind: Kind::Plain }
}

/// The numbers that a field lets through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values {
    /// Ascending, each once, never empty.
    numbers: Vec<u32>,
    /// The field begins with `*`: crontab(5) then does not count it as a restriction.
    pub starred: bool,
}

impl Values {
    pub fn contains(&self, number: u32) -> bool {
        self.numbers.binary_search(&number).is_ok()
    }

    /// The numbers from `least` on.
    pub fn at_least(&self, least: u32) -> impl Iterator<Item = u32> {
        let at = self.numbers.partition_point(|number| *number < least);
        self.numbers[at..].iter().copied()
    }
}

impl Field {
    /// Exactly this number.
    pub fn only(number: u32) -> Values {
        Values { numbers: vec![number], starred: false }
    }

    pub fn read(&self, text: &str) -> Result<Values, String> {
        let mut numbers = Vec::new();
        for item in text.split(',') {
            self.read_item(item, &mut numbers)?;
        }
        numbers.sort_unstable();
        numbers.dedup();
        Ok(Values { numbers, starred: text.starts_with(['*', '?']) })
    }

    /// `*`, `5`, `mon`, `1-5`, and each of them with a step: `*/15`, `5/15`, `8-18/2`.
    fn read_item(&self, item: &str, numbers: &mut Vec<u32>) -> Result<(), String> {
        let (span, step) = match item.split_once('/') {
            Some((span, step)) => (span, Some(self.step(item, step)?)),
            None => (item, None),
        };
        let (first, last) = (*self.range.start(), *self.range.end());
        let (from, to) = match span.split_once('-') {
            _ if span == "*" || (span == "?" && self.kind != Kind::Plain) => (first, last),
            Some((from, to)) if !from.is_empty() => {
                self.span(item, self.number(item, from)?, self.number(item, to)?)?
            }
            _ => {
                let number = self.number(item, span)?;
                let number = if self.kind == Kind::Weekday { number % 7 } else { number };
                (number, if step.is_some() { last } else { number })
            }
        };
        let wrapped = |number: u32| if self.kind == Kind::Weekday { number % 7 } else { number };
        numbers.extend((from..=to).step_by(step.unwrap_or(1)).map(wrapped));
        Ok(())
    }

    /// Both ends of a range. Of weekdays the second may come after the end of the week: it is counted on, to 13.
    fn span(&self, item: &str, from: u32, to: u32) -> Result<(u32, u32), String> {
        match self.kind {
            _ if from <= to => Ok((from, to)),
            Kind::Weekday => Ok((from, to + 7)),
            _ => {
                let (first, last) = (self.range.start(), self.range.end());
                Err(format!("{} {item:?} runs backwards; write {from}-{last},{first}-{to}", self.name))
            }
        }
    }

    fn step(&self, item: &str, step: &str) -> Result<usize, String> {
        let most = self.range.end() - self.range.start() + 1;
        match step.parse::<u32>() {
            Ok(step) if (1..=most).contains(&step) => Ok(step as usize),
            _ => Err(format!("{} {item:?} has the step {step:?}; a step is a number from 1 to {most}", self.name)),
        }
    }

    fn number(&self, item: &str, word: &str) -> Result<u32, String> {
        let (first, last) = (*self.range.start(), *self.range.end());
        let most = if self.kind == Kind::Weekday { 7 } else { last };
        if !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit()) {
            return match word.parse::<u32>() {
                Ok(number) if (first..=most).contains(&number) => Ok(number),
                _ => Err(format!("{} {word} is not in {first}-{most}", self.name)),
            };
        }
        let lower = word.to_ascii_lowercase();
        let named = || self.names.iter().position(|name| lower.len() >= 3 && name.starts_with(&lower));
        match named() {
            Some(at) => Ok(first + at as u32),
            None => Err(self.not_understood(item, word)),
        }
    }

    /// Signs of other schedulers are named, with what a crontab says in their place.
    fn not_understood(&self, item: &str, word: &str) -> String {
        let quoted = format!("{} {item:?}", self.name);
        let upper = item.to_ascii_uppercase();
        if upper.contains('#') {
            return format!("{quoted}: # (the nth weekday of a month) is not understood; submit by day of the month");
        }
        match self.kind {
            Kind::DayOfMonth | Kind::Weekday if upper.contains('L') => format!(
                "{quoted}: L (the last) is not understood; for what follows the end of a month, use day 1 of the next"
            ),
            Kind::DayOfMonth if upper.contains('W') => {
                format!(
                    "{quoted}: W (the nearest working day) is not understood; use a day of the month, or weekdays 1-5"
                )
            }
            _ if word == "?" => format!("{quoted}: ? stands for any day, and only in a day's field; write *"),
            _ if word == "*" => format!("{quoted}: * has no range; write * or */N"),
            _ if self.names.is_empty() => format!("{quoted}: {word:?} is not a number"),
            _ => format!("{quoted}: {word:?} is neither a number nor a name such as {:?}", &self.names[1][..3]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(field: &Field, text: &str) -> Vec<u32> {
        field.read(text).unwrap_or_else(|reason| panic!("{text}: {reason}")).at_least(0).collect()
    }

    #[test]
    fn lists_ranges_steps_and_names() {
        assert_eq!(read(&MINUTE, "*/20"), [0, 20, 40]);
        assert_eq!(read(&MINUTE, "5/25"), [5, 30, 55]);
        assert_eq!(read(&HOUR, "22-23,0-4/2,4"), [0, 2, 4, 22, 23]);
        assert_eq!(read(&MONTH, "jan,Mar-may,september"), [1, 3, 4, 5, 9]);
        assert_eq!(read(&DAY, "?").len(), 31);
    }

    #[test]
    fn sunday_is_0_and_7_also_in_ranges_and_lists() {
        for (text, days) in [
            ("0", &[0][..]),
            ("7", &[0]),
            ("5-7", &[0, 5, 6]),
            ("1-7", &[0, 1, 2, 3, 4, 5, 6]),
            ("0-7", &[0, 1, 2, 3, 4, 5, 6]),
            ("6-0", &[0, 6]),
            ("6-7", &[0, 6]),
            ("7-2", &[0, 1, 2]),
            ("fri-mon", &[0, 1, 5, 6]),
            ("Sat-Sunday", &[0, 6]),
            ("1,7", &[0, 1]),
            ("5-7/2", &[0, 5]),
            ("7/3", &[0, 3, 6]),
            ("0-0", &[0]),
        ] {
            assert_eq!(read(&WEEKDAY, text), days, "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_in_words() {
        for (field, text, said) in [
            (&MINUTE, "60", "minute 60 is not in 0-59"),
            (&WEEKDAY, "8", "weekday 8 is not in 0-7"),
            (&DAY, "0", "day of the month 0 is not in 1-31"),
            (&HOUR, "22-4", "hour \"22-4\" runs backwards; write 22-23,0-4"),
            (&MINUTE, "*/0", "minute \"*/0\" has the step \"0\"; a step is a number from 1 to 60"),
            (&MINUTE, "*/90", "minute \"*/90\" has the step \"90\"; a step is a number from 1 to 60"),
            (&HOUR, "?", "hour \"?\": ? stands for any day, and only in a day's field; write *"),
            (&MINUTE, "-5", "minute \"-5\": \"-5\" is not a number"),
            (&MINUTE, "1,,2", "minute \"\": \"\" is not a number"),
            (&WEEKDAY, "xyz", "weekday \"xyz\": \"xyz\" is neither a number nor a name such as \"mon\""),
            (&MINUTE, "99999999999", "minute 99999999999 is not in 0-59"),
            (&MINUTE, "*-5", "minute \"*-5\": * has no range; write * or */N"),
        ] {
            assert_eq!(field.read(text).unwrap_err(), said, "{text}");
        }
        for (field, text, sign) in [
            (&DAY, "L", "L (the last)"),
            (&DAY, "L-3", "L (the last)"),
            (&DAY, "LW", "L (the last)"),
            (&WEEKDAY, "5L", "L (the last)"),
            (&DAY, "15W", "W (the nearest working day)"),
            (&WEEKDAY, "1#2", "# (the nth weekday of a month)"),
            (&WEEKDAY, "mon#1", "# (the nth weekday of a month)"),
        ] {
            let said = field.read(text).unwrap_err();
            assert!(said.contains(sign) && said.contains("is not understood; "), "{text}: {said}");
        }
    }
}
