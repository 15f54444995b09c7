//! What is asked.

use chrono::NaiveDate;
use std::str::FromStr;

use crate::{Dimension, ReportError, Result};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpendQuery {
    /// In the order of the report's columns; empty for one row of totals.
    pub by: Vec<Dimension>,
    /// The first day, UTC, included.
    pub from: NaiveDate,
    /// The last day, UTC, included.
    pub to: NaiveDate,
    /// All of them must hold.
    pub filters: Vec<Filter>,
}

/// Rows whose dimension has one of these values; the empty value stands for a missing one. Written `team=search` or
/// `team=search,chat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    pub dimension: Dimension,
    pub values: Vec<String>,
}

impl FromStr for Filter {
    type Err = ReportError;

    fn from_str(text: &str) -> Result<Self> {
        let (dimension, values) =
            text.split_once('=').ok_or_else(|| ReportError::BadFilter(text.chars().take(64).collect()))?;
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        Ok(Self { dimension: dimension.trim().parse()?, values })
    }
}

impl SpendQuery {
    pub(super) fn check(&self) -> Result<()> {
        if self.from > self.to {
            return Err(ReportError::EmptyRange { from: self.from, to: self.to });
        }
        for (n, dimension) in self.by.iter().enumerate() {
            if self.by[..n].contains(dimension) {
                return Err(ReportError::RepeatedDimension(dimension.as_str()));
            }
        }
        match self.filters.iter().find(|filter| filter.dimension.is_time()) {
            Some(filter) => Err(ReportError::TimeFilter(filter.dimension.as_str())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_names_a_dimension_and_values() {
        let filter: Filter = "team = search, chat".parse().unwrap();
        assert_eq!(filter, Filter { dimension: Dimension::Team, values: vec!["search".into(), "chat".into()] });
        assert!(matches!("team".parse::<Filter>(), Err(ReportError::BadFilter(_))));
        assert!(matches!("taem=x".parse::<Filter>(), Err(ReportError::UnknownDimension { nearest: Some("team"), .. })));
    }
}
