//! Why there is no report.

use domain::manifest::MANIFEST;
use polars::error::PolarsError;

#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error("{given:?} is not a dimension{}; use one of {known}", hint(.nearest))]
    UnknownDimension { given: String, nearest: Option<&'static str>, known: String },
    #[error("{0} is named twice")]
    RepeatedDimension(&'static str),
    #[error("{given:?} is not a format{}; use table, csv, json or parquet", hint(.nearest))]
    UnknownFormat { given: String, nearest: Option<&'static str> },
    #[error("a filter is written as dimension=value; {0:?} is not")]
    BadFilter(String),
    #[error("the {0} cannot be filtered; give the first and the last day instead")]
    TimeFilter(&'static str),
    #[error("the first day, {from}, is after the last, {to}")]
    EmptyRange { from: chrono::NaiveDate, to: chrono::NaiveDate },
    #[error(
        "there is no lake at {place}: it has no {MANIFEST}; give the folder or s3://bucket/prefix that `tollway lake export` writes to"
    )]
    NoLake { place: String },
    #[error("{place} cannot be read: {reason}")]
    Source { place: String, reason: String },
    #[error("the lake could not be read; if it was compacted meanwhile, run the report again ({0})")]
    Lake(PolarsError),
    #[error("the report could not be written: {0}")]
    Write(#[from] std::io::Error),
}

fn hint(nearest: &Option<&'static str>) -> String {
    nearest.map(|word| format!(", perhaps {word:?}")).unwrap_or_default()
}

impl From<PolarsError> for ReportError {
    fn from(error: PolarsError) -> Self {
        Self::Lake(error)
    }
}
