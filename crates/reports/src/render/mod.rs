//! A report as people and programs read it.

mod csv;
mod parquet;
mod table;

use std::{io::Write, str::FromStr};

use crate::{ReportError, Result, SpendReport, nearest};
pub use table::table;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people: rounded, with a total.
    Table,
    /// Exact, one line for each group, no total.
    Csv,
    /// Exact, money as decimal strings, with the total.
    Json,
    /// Exact, money as Decimal(38, 12), no total.
    Parquet,
}

impl FromStr for Format {
    type Err = ReportError;

    fn from_str(given: &str) -> Result<Self> {
        match given {
            "table" => Ok(Self::Table),
            "csv" => Ok(Self::Csv),
            "json" => Ok(Self::Json),
            "parquet" => Ok(Self::Parquet),
            _ => Err(ReportError::UnknownFormat {
                given: given.chars().take(64).collect(),
                nearest: nearest(given, ["table", "csv", "json", "parquet"]),
            }),
        }
    }
}

/// Writes the report in the given format.
pub fn render(report: &SpendReport, format: Format, mut out: impl Write) -> Result<()> {
    match format {
        Format::Table => writeln!(out, "{}", table(report))?,
        Format::Csv => csv::write(report, &mut out)?,
        Format::Json => {
            serde_json::to_writer_pretty(&mut out, report).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
        Format::Parquet => parquet::write(report, &mut out)?,
    }
    Ok(out.flush()?)
}
