//! What is answered.

use std::{cmp::Reverse, iter::Sum};

use chrono::NaiveDate;
use domain::money::Total;
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::SpendQuery;
use crate::{Dimension, Freshness, Source};

/// Counts and sums of one group. Reversals and adjustments change tokens and cost, but are no calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Measures {
    /// Requests that ended in this group.
    pub requests: i64,
    /// Provider calls: retries and fallbacks count each.
    pub calls: i64,
    /// Calls that failed.
    pub failed: i64,
    /// Calls that nobody knows the end of; charged at their reservation.
    pub unknown_outcome: i64,
    /// All input, whatever it cost: cached and uncached, text, audio and images.
    pub input_tokens: i64,
    /// The part of the input that came from the provider's cache.
    pub cache_read_tokens: i64,
    /// Text, reasoning and audio.
    pub output_tokens: i64,
    /// At contracted prices; `None` when nothing in the group has a price. In JSON a decimal string, exact.
    pub cost_usd: Option<Total>,
    pub list_cost_usd: Option<Total>,
    /// Rows without a price, which the cost lacks.
    pub unpriced: i64,
    /// Rows whose tokens or price were estimated.
    pub estimated: i64,
}

impl Measures {
    /// The names of the measures, in the order of the report's columns.
    pub const NAMES: [&str; 11] = [
        "requests",
        "calls",
        "failed",
        "unknown_outcome",
        "input_tokens",
        "cache_read_tokens",
        "output_tokens",
        "cost_usd",
        "list_cost_usd",
        "unpriced",
        "estimated",
    ];

    fn plus(self, other: &Self) -> Self {
        let money = |a: Option<Total>, b: Option<Total>| match (a, b) {
            (Some(a), Some(b)) => Some(Total(a.0 + b.0)),
            (a, b) => a.or(b),
        };
        Self {
            requests: self.requests + other.requests,
            calls: self.calls + other.calls,
            failed: self.failed + other.failed,
            unknown_outcome: self.unknown_outcome + other.unknown_outcome,
            input_tokens: self.input_tokens + other.input_tokens,
            cache_read_tokens: self.cache_read_tokens + other.cache_read_tokens,
            output_tokens: self.output_tokens + other.output_tokens,
            cost_usd: money(self.cost_usd, other.cost_usd),
            list_cost_usd: money(self.list_cost_usd, other.list_cost_usd),
            unpriced: self.unpriced + other.unpriced,
            estimated: self.estimated + other.estimated,
        }
    }
}

impl<'a> Sum<&'a Measures> for Measures {
    fn sum<I: Iterator<Item = &'a Measures>>(groups: I) -> Self {
        groups.fold(Self::default(), Self::plus)
    }
}

/// One group. In JSON one flat object: the dimensions by their names, then the measures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpendRow {
    pub by: Vec<Dimension>,
    /// One for each dimension; `None` where the calls had none. Days are `2026-11-22`, months `2026-11`.
    pub keys: Vec<Option<String>>,
    pub measures: Measures,
}

impl Serialize for SpendRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Flat<'a> {
            #[serde(flatten, serialize_with = "keys")]
            row: &'a SpendRow,
            #[serde(flatten)]
            measures: Measures,
        }
        fn keys<S: Serializer>(row: &&SpendRow, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(row.keys.len()))?;
            for (dimension, key) in row.by.iter().zip(&row.keys) {
                map.serialize_entry(dimension.as_str(), key)?;
            }
            map.end()
        }
        Flat { row: self, measures: self.measures }.serialize(serializer)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpendReport {
    pub by: Vec<Dimension>,
    pub from: NaiveDate,
    pub to: NaiveDate,
    /// By time where that is asked for, then by cost, the highest first.
    pub rows: Vec<SpendRow>,
    pub total: Measures,
    /// Files that were read.
    pub files: usize,
    /// A sentence for the reader where the figures alone would mislead.
    pub note: Option<String>,
    /// How far the lake was behind the ledger.
    pub lake: Freshness,
}

impl SpendReport {
    pub(super) fn new(source: &Source, query: &SpendQuery, mut rows: Vec<SpendRow>) -> Self {
        let time: Vec<usize> = (0..query.by.len()).filter(|n| query.by[*n].is_time()).collect();
        rows.sort_by_cached_key(|row| {
            let times: Vec<_> = time.iter().map(|n| row.keys[*n].clone()).collect();
            (times, Reverse(row.measures.cost_usd), row.keys.clone())
        });
        let total: Measures = rows.iter().map(|row| &row.measures).sum();
        let files = source.files(query.from, query.to);
        let days = if query.from == query.to {
            format!("on {}", query.from)
        } else {
            format!("from {} to {}", query.from, query.to)
        };
        let note = if files == 0 {
            Some(format!("The lake at {} has no calls {days}. Calls reach it by the next export.", source.place()))
        } else if rows.is_empty() {
            Some(format!("No calls {days} match."))
        } else if total.unpriced > 0 {
            Some(format!("{} rows have no price; the cost is without them.", total.unpriced))
        } else {
            None
        };
        let lake = source.freshness();
        Self { by: query.by.clone(), from: query.from, to: query.to, rows, total, files, note, lake }
    }
}
