//! A length of time as people write it: `90m`, `24h`, `7d`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const UNITS: [(&str, i64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];

/// In seconds; above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Length(i64);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration above zero, such as 30s, 90m, 24h or 7d")]
pub struct BadLength(String);

impl Length {
    pub fn from_seconds(seconds: i64) -> Option<Self> {
        (seconds > 0).then_some(Self(seconds))
    }

    pub fn seconds(self) -> i64 {
        self.0
    }
}

/// In the largest unit of which it is a whole number.
impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, unit) = UNITS.into_iter().find(|(_, unit)| self.0 % unit == 0).unwrap_or(("s", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

impl FromStr for Length {
    type Err = BadLength;

    fn from_str(text: &str) -> Result<Self, BadLength> {
        let read = |(name, unit): (&str, i64)| text.strip_suffix(name)?.parse::<i64>().ok()?.checked_mul(unit);
        let seconds = UNITS.into_iter().find_map(read);
        seconds.and_then(Self::from_seconds).ok_or_else(|| BadLength(text.chars().take(40).collect()))
    }
}

impl Serialize for Length {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_read_as_it_is_shown() {
        for text in ["1s", "90s", "90m", "1h", "36h", "7d"] {
            assert_eq!(text.parse::<Length>().unwrap().to_string(), text);
        }
        assert_eq!("24h".parse::<Length>().unwrap().to_string(), "1d");
        for text in ["", "1", "0s", "-1h", "h", "1.5h", "9223372036854775807d"] {
            assert!(text.parse::<Length>().is_err(), "{text}");
        }
    }
}
