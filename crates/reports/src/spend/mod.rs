//! Who or what costs money?

mod aggregate;
mod query;
mod report;

pub use query::{Filter, SpendQuery};
pub use report::{Measures, SpendReport, SpendRow};

use crate::{Result, Source};

/// Sums calls, tokens and cost by the query's dimensions. Blocks; see the crate's documentation.
///
/// A lake without files for these days gives a report without rows, and a note that says so.
pub fn spend(source: &Source, query: &SpendQuery) -> Result<SpendReport> {
    query.check()?;
    let rows = aggregate::rows(source, query)?;
    Ok(SpendReport::new(source, query, rows))
}
