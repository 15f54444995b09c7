//! Own prices that are far from the list's: a slip of a unit, more likely than a bargain. They hold all the same.

use std::fmt;

use chrono::{DateTime, Utc};
use domain::{Money, catalog::OwnPrice};

use crate::{rate::Class, shipped::SHIPPED, terms::Terms};

/// A negotiated price is some percent off the list's; a wrong unit, such as a thousand tokens for a million, is a thousand times off.
const FACTOR: i128 = 10;
/// USD per million tokens, in pico-USD, of a model that the list does not know: no model costs so much.
const MOST: i128 = 10_000 * 1_000_000_000_000;

/// A figure of `[[prices]]` that is probably not meant. Amounts are USD per million tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OddPrice {
    pub provider: String,
    pub model: String,
    /// As it is declared: `input`, `output`, …
    pub field: &'static str,
    pub given: Money,
    /// The list's; `None`: the list does not know the model.
    pub listed: Option<Money>,
}

/// Of own prices, the figures that are more than ten times, or less than a tenth of, what the list says at this moment.
pub fn odd_prices(prices: &[OwnPrice], at: DateTime<Utc>) -> Vec<OddPrice> {
    prices.iter().filter(|price| !price.free).flat_map(|price| of_model(price, at)).collect()
}

fn of_model(price: &OwnPrice, at: DateTime<Utc>) -> impl Iterator<Item = OddPrice> {
    let listing = SHIPPED.find(&price.provider, &price.model).ok();
    let rates = listing.map(|listing| listing.model.rates(at, Terms::sync(), listing.at_home).rates);
    let figures = [
        ("input", Class::Input, &price.input),
        ("output", Class::Output, &price.output),
        ("cache_read", Class::CacheRead, &price.cache_read),
        ("cache_write", Class::CacheWrite, &price.cache_write),
    ];
    figures.into_iter().filter_map(move |(field, class, given)| {
        let given: Money = given.as_ref()?.parse().ok()?;
        // Pico-USD per token.
        let listed = rates.as_ref().and_then(|rates| rates.get(class, 0)).filter(|rate| *rate > 0);
        let listed = listed.and_then(|rate| rate.checked_mul(1_000_000)).map(Money);
        let odd = OddPrice { provider: price.provider.clone(), model: price.model.clone(), field, given, listed };
        odd.is_odd().then_some(odd)
    })
}

impl OddPrice {
    fn is_odd(&self) -> bool {
        let given = i128::from(self.given.pico());
        match self.listed.map(|listed| i128::from(listed.pico())) {
            Some(listed) => given > listed * FACTOR || given * FACTOR < listed,
            None => given > MOST,
        }
    }
}

impl fmt::Display for OddPrice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { provider, model, field, given, listed } = self;
        write!(f, "[[prices]] for {provider:?} {model:?}: {field} is ${given} per million tokens, ")?;
        let Some(listed) = listed else {
            return f.write_str("more than any known model costs; is it meant per million?");
        };
        let (given, list) = (i128::from(given.pico()), i128::from(listed.pico()).max(1));
        let (more, times) = if given >= list { ("", given / list) } else { ("one ", list / given.max(1)) };
        match more.is_empty() {
            true => write!(f, "{times} times the list's ${listed}; is it meant per million?"),
            false => write!(f, "{more}{times}th of the list's ${listed}; is it meant per million?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of gpt-4o ($2.50 in, $10.00 out) at these own prices.
    fn check(model: &str, input: &str, output: Option<&str>, expected: &[&str]) {
        let price = serde_json::json!({"provider": "openai", "model": model, "input": input, "output": output});
        let price: OwnPrice = serde_json::from_value(price).unwrap();
        let said: Vec<String> =
            odd_prices(&[price], "2026-11-22T12:00:00Z".parse().unwrap()).iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), expected.len(), "{said:?}");
        assert!(said.iter().zip(expected).all(|(said, expected)| said.contains(expected)), "{said:?}");
    }

    #[test]
    fn a_price_a_million_times_the_lists_is_odd_and_both_figures_are_said() {
        check(
            "gpt-4o",
            "2500000",
            Some("10"),
            &["input is $2500000.00 per million tokens, 1000000 times the list's $2.50"],
        );
        check(
            "gpt-4o",
            "2.5",
            Some("10000"),
            &["output is $10000.00 per million tokens, 1000 times the list's $10.00"],
        );
        check("gpt-4o", "0.0025", Some("10"), &["input is $0.0025 per million tokens, one 1000th of the list's $2.50"]);
    }

    #[test]
    fn a_negotiated_price_is_not_odd() {
        for (input, output) in [("2.5", "10"), ("1.25", "5"), ("25", "100"), ("0.25", "1")] {
            check("gpt-4o", input, Some(output), &[]);
        }
    }

    #[test]
    fn of_a_model_that_the_list_does_not_know_only_what_no_model_costs_is_odd() {
        check("own", "300", None, &[]);
        check("own", "1000000", None, &["more than any known model costs"]);
    }
}
