//! RFC 4180. A missing value is empty.

use std::io::{Result, Write};

use domain::money::Total;

use crate::{Measures, SpendReport};

pub fn write(report: &SpendReport, out: &mut impl Write) -> Result<()> {
    let names = report.by.iter().map(|dimension| dimension.as_str().to_owned());
    line(out, names.chain(Measures::NAMES.map(str::to_owned)))?;
    for row in &report.rows {
        let keys = row.keys.iter().map(|key| key.clone().unwrap_or_default());
        line(out, keys.chain(fields(&row.measures)))?;
    }
    Ok(())
}

fn fields(m: &Measures) -> [String; 11] {
    let money = |total: Option<Total>| total.map(|total| total.to_string()).unwrap_or_default();
    [
        m.requests.to_string(),
        m.calls.to_string(),
        m.failed.to_string(),
        m.unknown_outcome.to_string(),
        m.input_tokens.to_string(),
        m.cache_read_tokens.to_string(),
        m.output_tokens.to_string(),
        money(m.cost_usd),
        money(m.list_cost_usd),
        m.unpriced.to_string(),
        m.estimated.to_string(),
    ]
}

fn line(out: &mut impl Write, fields: impl Iterator<Item = String>) -> Result<()> {
    let quoted: Vec<String> = fields.map(|field| quote(&field)).collect();
    write!(out, "{}\r\n", quoted.join(","))
}

fn quote(field: &str) -> String {
    if field.contains(['"', ',', '\r', '\n']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}
