//! One model of the shipped list: its price lines, and which of them hold at a moment.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use serde::Deserialize;

use crate::{
    name_pattern::NamePattern,
    rate::{Class, Rate, Rates},
    terms::{Processing, Terms},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListedModel {
    pub(crate) id: String,
    #[serde(rename = "match")]
    pub(crate) names: NamePattern,
    /// Input tokens the model takes.
    #[serde(default)]
    pub(crate) context: Option<i64>,
    prices: Vec<Line>,
}

#[derive(Debug, Deserialize)]
#[serde(from = "RawLine")]
struct Line {
    /// Both absent on a standard line.
    processing: Option<BatchOnly>,
    tier: Option<String>,
    from: Option<NaiveDate>,
    daily: Option<[NaiveTime; 2]>,
    rates: Rates,
}

#[derive(Debug, Deserialize)]
struct RawLine {
    #[serde(default)]
    processing: Option<BatchOnly>,
    #[serde(default)]
    tier: Option<String>,
    #[serde(default)]
    from: Option<NaiveDate>,
    #[serde(default)]
    daily: Option<[NaiveTime; 2]>,
    #[serde(flatten)]
    rates: HashMap<Class, Rate>,
}

impl From<RawLine> for Line {
    fn from(RawLine { processing, tier, from, daily, rates }: RawLine) -> Self {
        Self { processing, tier, from, daily, rates: rates.into() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum BatchOnly {
    #[serde(rename = "provider_batch")]
    ProviderBatch,
}

/// Rates for one call, and whether the list has a price for exactly its terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedRates {
    pub(crate) rates: Rates,
    /// False: a batch or a service tier that the list does not price; the rates are the standard ones.
    pub(crate) exact: bool,
}

impl ListedModel {
    /// Single figures of matching variants, the first one first, over the standard line. `variants: false` for a provider that
    /// resells another's model: it has the standard price only.
    pub(crate) fn rates(&self, at: DateTime<Utc>, terms: Terms<'_>, variants: bool) -> ListedRates {
        let standard = self.standard(at);
        let batch = terms.processing == Processing::ProviderBatch;
        let tier = terms.special_tier();
        if !batch && tier.is_none() {
            return ListedRates { rates: standard.cloned().unwrap_or_default(), exact: true };
        }
        let (mut rates, mut batch_found, mut tier_found) = (Rates::default(), !batch, tier.is_none());
        for line in self.prices.iter().filter(|line| variants && line.is_variant() && line.holds(at)) {
            if (line.processing.is_none() || batch) && (line.tier.is_none() || line.tier.as_deref() == tier) {
                rates.fill_from(&line.rates);
                batch_found |= line.processing.is_some();
                tier_found |= line.tier.is_some();
            }
        }
        standard.into_iter().for_each(|standard| rates.fill_from(standard));
        ListedRates { rates, exact: batch_found && tier_found }
    }

    /// Some day it is charged for by the token, and not only by the hour or the page.
    pub(crate) fn has_token_price(&self) -> bool {
        self.prices.iter().any(|line| line.rates.get(Class::Input, 0).is_some())
    }

    fn standard(&self, at: DateTime<Utc>) -> Option<&Rates> {
        let mut lines = self.prices.iter().filter(|line| !line.is_variant());
        let last = lines.clone().rfind(|line| line.holds(at));
        last.or_else(|| lines.next()).map(|line| &line.rates)
    }
}

impl Line {
    fn is_variant(&self) -> bool {
        self.processing.is_some() || self.tier.is_some()
    }

    fn holds(&self, at: DateTime<Utc>) -> bool {
        let time = at.time();
        let begun = self.from.is_none_or(|day| at.date_naive() >= day);
        begun
            && self.daily.is_none_or(|[from, until]| {
                if until < from { time >= from || time < until } else { from <= time && time < until }
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_may_span_midnight() {
        let model: ListedModel = serde_json::from_str(
            r#"{"id":"m","match":"=m","prices":[{"input":2},{"daily":["22:00:00","06:00:00"],"input":1}]}"#,
        )
        .unwrap();
        let price = |time: &str| {
            let at = format!("2026-11-22T{time}Z").parse().unwrap();
            model.rates(at, Terms::sync(), true).rates.get(Class::Input, 0).unwrap()
        };
        let seen = ["21:59:59", "22:00:00", "00:00:00", "05:59:59", "06:00:00"].map(price);
        assert_eq!(seen, [2, 1, 1, 1, 2]);
    }

    #[test]
    fn a_price_line_with_an_unknown_key_is_refused() {
        let model = r#"{"id":"m","match":"=m","prices":[{"input":2,"inputs":3}]}"#;
        assert!(serde_json::from_str::<ListedModel>(model).is_err());
    }
}
