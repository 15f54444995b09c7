//! Exact money. One call's money is whole pico-USD (10⁻¹² USD) in an i64; sums are i128. Dollars per million tokens × 10⁶
//! is a whole number of pico-USD per token, so list prices with up to six decimals are exact. Never a float.

use std::{fmt, iter::Sum, ops::Add, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub const PICO_PER_USD: i128 = 1_000_000_000_000;

/// Pico-USD. In JSON a decimal string of USD with up to twelve places, such as `"0.000012"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Money(pub i64);

/// Why a text or a product is no money.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    #[error("{0:?} is not an amount of USD with at most twelve decimals")]
    NotAnAmount(String),
    #[error("the amount is beyond 9.2 million USD, which no single call can cost")]
    TooLarge,
}

impl Money {
    pub const ZERO: Self = Self(0);

    pub fn from_pico(pico: i128) -> Result<Self, MoneyError> {
        i64::try_from(pico).map(Self).map_err(|_| MoneyError::TooLarge)
    }

    pub fn checked_add(self, other: Self) -> Result<Self, MoneyError> {
        self.0.checked_add(other.0).map(Self).ok_or(MoneyError::TooLarge)
    }

    pub fn pico(self) -> i64 {
        self.0
    }
}

impl Add<Money> for Total {
    type Output = Total;
    fn add(self, other: Money) -> Total {
        Total(self.0 + i128::from(other.0))
    }
}

/// A sum of many charges, in pico-USD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Total(pub i128);

impl Sum<Money> for Total {
    fn sum<I: Iterator<Item = Money>>(iter: I) -> Self {
        iter.fold(Total(0), |sum, money| sum + money)
    }
}

/// Rounds `numerator / denominator` half to even; the denominator is positive.
pub fn div_half_even(numerator: i128, denominator: i128) -> i128 {
    let quotient = numerator.div_euclid(denominator);
    let rest = numerator.rem_euclid(denominator);
    match (rest * 2).cmp(&denominator) {
        std::cmp::Ordering::Less => quotient,
        std::cmp::Ordering::Greater => quotient + 1,
        std::cmp::Ordering::Equal => quotient + (quotient & 1),
    }
}

fn write_usd(f: &mut fmt::Formatter<'_>, pico: i128) -> fmt::Result {
    let sign = if pico < 0 { "-" } else { "" };
    let pico = pico.unsigned_abs();
    let (usd, rest) = (pico / PICO_PER_USD as u128, pico % PICO_PER_USD as u128);
    let places = format!("{rest:012}");
    // At least cents, and no zeros after them that say nothing.
    let kept = places.trim_end_matches('0').len().max(2);
    write!(f, "{sign}{usd}.{}", &places[..kept])
}

fn parse_usd(given: &str) -> Result<i128, MoneyError> {
    let bad = || MoneyError::NotAnAmount(given.chars().take(40).collect());
    let text = given.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, places) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() > 20 || places.len() > 12 || !all_digits(whole) || !all_digits(places) {
        return Err(bad());
    }
    let whole: i128 = whole.parse().map_err(|_| bad())?;
    let pico: i128 = format!("{places:0<12}").parse().map_err(|_| bad())?;
    let value = whole * PICO_PER_USD + pico;
    Ok(if negative { -value } else { value })
}

macro_rules! usd_text {
    ($type:ident, $inner:ty, $from:expr) => {
        /// USD with two to twelve decimals.
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_usd(f, i128::from(self.0))
            }
        }
        impl FromStr for $type {
            type Err = MoneyError;
            fn from_str(given: &str) -> Result<Self, MoneyError> {
                let pico = parse_usd(given)?;
                $from(pico)
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

usd_text!(Money, i64, Money::from_pico);
usd_text!(Total, i128, |pico| Ok::<_, MoneyError>(Total(pico)));

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn money_reads_back_as_itself(pico: i64) {
            prop_assert_eq!(Money(pico).to_string().parse::<Money>().unwrap(), Money(pico));
        }

        #[test]
        fn half_even_is_never_further_than_half(n in -1_000_000_000i128..1_000_000_000, d in 1i128..100_000) {
            let rounded = div_half_even(n, d);
            prop_assert!((rounded * d - n).abs() * 2 <= d);
        }
    }

    #[test]
    fn halves_go_to_the_even_neighbour() {
        let rounded: Vec<i128> = [5, 15, 25, -5, -15].map(|n| div_half_even(n, 10)).to_vec();
        assert_eq!(rounded, [0, 2, 2, 0, -2]);
    }

    #[test]
    fn an_amount_shows_cents_and_no_idle_zeros() {
        let shown: Vec<String> = [0, 1, 1_500_000_000_000, -20_000_000].map(|p| Money(p).to_string()).to_vec();
        assert_eq!(shown, ["0.00", "0.000000000001", "1.50", "-0.00002"]);
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", "1e3", "0.1234567890123", "$1", "1,0", "--1", "99999999999999999999999"] {
            assert!(text.parse::<Money>().is_err(), "{text}");
        }
    }
}
