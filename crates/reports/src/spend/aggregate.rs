//! The groups, by polars' streaming engine.

use chrono::NaiveDate;
use domain::money::Total;
use polars::prelude::{Column, DataFrame, DataType, Engine, Expr, PolarsResult, col, len, lit};

use super::{Measures, SpendQuery, SpendRow};
use crate::{Dimension, Result, Source};

const INPUT: [&str; 6] =
    ["input_uncached", "cache_read", "cache_write_5m", "cache_write_1h", "input_audio", "input_image"];
const OUTPUT: [&str; 3] = ["output_text", "output_reasoning", "output_audio"];
const OTHERS: [&str; 7] =
    ["record_kind", "is_final", "status", "usage_source", "price_status", "contracted_cost", "list_cost"];

/// The groups of a query, in no order.
pub fn rows(source: &Source, query: &SpendQuery) -> Result<Vec<SpendRow>> {
    let dimensions = query.by.iter().copied().chain(query.filters.iter().map(|filter| filter.dimension));
    let mut columns: Vec<&str> = INPUT.into_iter().chain(OUTPUT).chain(OTHERS).collect();
    columns.extend(dimensions.map(Dimension::column));
    columns.sort_unstable();
    columns.dedup();
    let Some(mut rows) = source.scan(query.from, query.to, &columns)? else { return Ok(Vec::new()) };
    for filter in &query.filters {
        rows = rows.filter(matches(filter));
    }
    let keys: Vec<Expr> =
        query.by.iter().enumerate().map(|(n, dimension)| key(*dimension).alias(key_name(n))).collect();
    let groups = if keys.is_empty() { rows.select(measures()) } else { rows.group_by(keys).agg(measures()) };
    let groups = groups.collect_with_engine(Engine::Streaming)?.unwrap_single();
    Ok(read(&groups, &query.by)?)
}

fn matches(filter: &super::Filter) -> Expr {
    let column = col(filter.dimension.column());
    let one = |value: &String| match value.as_str() {
        "" => column.clone().is_null(),
        value => column.clone().eq(lit(value.to_owned())),
    };
    filter.values.iter().map(one).reduce(Expr::or).unwrap_or_else(|| lit(false)).fill_null(lit(false))
}

fn key_name(n: usize) -> String {
    format!("key_{n}")
}

/// Time as a number: days since 1970, months since the year 0.
fn key(dimension: Dimension) -> Expr {
    let day = || col("completed_at").cast(DataType::Date);
    match dimension {
        Dimension::Day => day().cast(DataType::Int32),
        Dimension::Month => {
            day().dt().year().cast(DataType::Int32) * lit(12) + day().dt().month().cast(DataType::Int32) - lit(1)
        }
        other => col(other.column()),
    }
}

fn count(condition: Expr) -> Expr {
    condition.fill_null(lit(false)).cast(DataType::Int64).sum()
}

fn total(columns: &[&str]) -> Expr {
    columns.iter().map(|name| col(*name).sum()).reduce(|a, b| a + b).unwrap_or_else(|| lit(0i64))
}

fn measures() -> Vec<Expr> {
    let original = || col("record_kind").eq(lit("original"));
    let status = |word: &'static str| original().and(col("status").eq(lit(word)));
    let source = |word: &'static str| col("usage_source").eq_missing(lit(word));
    let estimated = col("price_status").eq(lit("estimated")).or(source("estimated")).or(source("implausible"));
    vec![
        len().alias("rows"),
        count(original().and(col("is_final"))).alias("requests"),
        count(original()).alias("calls"),
        count(status("failed")).alias("failed"),
        count(status("unknown_outcome")).alias("unknown_outcome"),
        total(&INPUT).alias("input_tokens"),
        total(&["cache_read"]).alias("cache_read_tokens"),
        total(&OUTPUT).alias("output_tokens"),
        col("contracted_cost").sum().alias("cost_usd"),
        count(col("contracted_cost").is_not_null()).alias("priced"),
        col("list_cost").sum().alias("list_cost_usd"),
        count(col("list_cost").is_not_null()).alias("list_priced"),
        count(col("price_status").eq(lit("unpriced"))).alias("unpriced"),
        count(estimated).alias("estimated"),
    ]
}

fn read(groups: &DataFrame, by: &[Dimension]) -> PolarsResult<Vec<SpendRow>> {
    let numbers = |name: &str| -> PolarsResult<Vec<i64>> {
        let column = groups.column(name)?.cast(&DataType::Int64)?;
        Ok(column.i64()?.iter().map(Option::unwrap_or_default).collect())
    };
    // A sum of decimals has the scale of its terms, twelve: its digits are pico-dollars.
    let money = |name: &str, priced: &str| -> PolarsResult<Vec<Option<Total>>> {
        let sums = groups.column(name)?.decimal()?;
        let sums = sums.physical().iter().map(|sum| Total(sum.unwrap_or(0)));
        Ok(sums.zip(numbers(priced)?).map(|(sum, priced)| (priced > 0).then_some(sum)).collect())
    };
    let keys: Vec<Vec<Option<String>>> = by
        .iter()
        .enumerate()
        .map(|(n, dimension)| texts(*dimension, groups.column(&key_name(n))?))
        .collect::<PolarsResult<_>>()?;
    let columns = (numbers("requests")?, numbers("calls")?, numbers("failed")?, numbers("unknown_outcome")?);
    let tokens = (numbers("input_tokens")?, numbers("cache_read_tokens")?, numbers("output_tokens")?);
    let costs = (money("cost_usd", "priced")?, money("list_cost_usd", "list_priced")?);
    let (unpriced, estimated, sizes) = (numbers("unpriced")?, numbers("estimated")?, numbers("rows")?);
    let row = |n: usize| SpendRow {
        by: by.to_vec(),
        keys: keys.iter().map(|key| key[n].clone()).collect(),
        measures: Measures {
            requests: columns.0[n],
            calls: columns.1[n],
            failed: columns.2[n],
            unknown_outcome: columns.3[n],
            input_tokens: tokens.0[n],
            cache_read_tokens: tokens.1[n],
            output_tokens: tokens.2[n],
            cost_usd: costs.0[n],
            list_cost_usd: costs.1[n],
            unpriced: unpriced[n],
            estimated: estimated[n],
        },
    };
    // Without dimensions there is one group even where there is no row.
    Ok((0..groups.height()).filter(|n| sizes[*n] > 0).map(row).collect())
}

fn texts(dimension: Dimension, column: &Column) -> PolarsResult<Vec<Option<String>>> {
    Ok(match dimension {
        Dimension::Day => column.i32()?.iter().map(|day| Some(NaiveDate::from_epoch_days(day?)?.to_string())).collect(),
        Dimension::Month => column
            .i32()?
            .iter()
            .map(|months| months.map(|months| format!("{:04}-{:02}", months.div_euclid(12), months.rem_euclid(12) + 1)))
            .collect(),
        _ => column.str()?.iter().map(|text| text.map(str::to_owned)).collect(),
    })
}
