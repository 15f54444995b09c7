//! Reports over the lake, computed by polars.
//!
//! A report reads the files that the lake's manifest lists, and of these only the columns and days that it needs; from S3 by
//! polars' own reader, which fetches ranges of columns instead of files. polars brings that client along in any case, for the
//! object store that the lake links too.
//!
//! Nothing here touches the database or the lake's writer: whoever opens the lake hands over its place and its manifest
//! ([`Source`]). Functions block and use all cores: run them in a process of their own, or at least off the async runtime.
//!
//! Money is summed as whole pico-dollars and never passes through a float. A day is the UTC date of `completed_at`, which is
//! what the lake is partitioned by.

#![warn(clippy::unwrap_used)]

pub mod dimension;
pub mod error;
mod figures;
pub mod freshness;
pub mod render;
pub mod source;
pub mod spend;

pub use dimension::Dimension;
pub use error::ReportError;
pub use freshness::{Behind, Freshness};
pub use render::{Format, render};
pub use source::Source;
pub use spend::{Filter, Measures, SpendQuery, SpendReport, SpendRow, spend};

pub type Result<T, E = ReportError> = std::result::Result<T, E>;

/// Of `known`, the word that `given` was most likely meant to be.
pub(crate) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|word| (strsim::jaro_winkler(given, word), word));
    scored.filter(|(score, _)| *score > 0.7).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, word)| word)
}
