//! The groups as a Parquet file.

use std::io::Write;

use domain::money::Total;
use polars::prelude::{
    Column, DataFrame, Int128Chunked, IntoColumn, IntoSeries, NamedFrom, NewChunkedArray, ParquetWriter, PlSmallStr,
    PolarsResult, Series,
};

use crate::{Measures, Result, SpendReport};

pub fn write(report: &SpendReport, out: &mut impl Write) -> Result<()> {
    let mut frame = frame(report)?;
    ParquetWriter::new(out).finish(&mut frame)?;
    Ok(())
}

fn frame(report: &SpendReport) -> PolarsResult<DataFrame> {
    let mut columns: Vec<Column> = Vec::new();
    for (n, dimension) in report.by.iter().enumerate() {
        let keys: Vec<Option<&str>> = report.rows.iter().map(|row| row.keys[n].as_deref()).collect();
        columns.push(Series::new(dimension.as_str().into(), keys).into_column());
    }
    let number = |name: &str, of: fn(&Measures) -> i64| {
        let values: Vec<i64> = report.rows.iter().map(|row| of(&row.measures)).collect();
        Series::new(PlSmallStr::from_str(name), values).into_column()
    };
    let money = |name: &str, of: fn(&Measures) -> Option<Total>| -> PolarsResult<Column> {
        let values = report.rows.iter().map(|row| of(&row.measures).map(|total| total.0));
        let digits = Int128Chunked::from_iter_options(PlSmallStr::from_str(name), values);
        Ok(digits.into_decimal(38, 12)?.into_series().into_column())
    };
    columns.extend([
        number("requests", |m| m.requests),
        number("calls", |m| m.calls),
        number("failed", |m| m.failed),
        number("unknown_outcome", |m| m.unknown_outcome),
        number("input_tokens", |m| m.input_tokens),
        number("cache_read_tokens", |m| m.cache_read_tokens),
        number("output_tokens", |m| m.output_tokens),
        money("cost_usd", |m| m.cost_usd)?,
        money("list_cost_usd", |m| m.list_cost_usd)?,
        number("unpriced", |m| m.unpriced),
        number("estimated", |m| m.estimated),
    ]);
    DataFrame::new(report.rows.len(), columns)
}
