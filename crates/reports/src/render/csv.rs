//! RFC 4180. A missing value is empty.
//!
//! Tags come from callers, and a spreadsheet runs a cell that begins with `=`, `+`, `-` or `@` as a formula. So a text that begins
//! like one has one apostrophe put before it, and so has a text that begins with an apostrophe: a program gets the value back by
//! dropping one leading apostrophe. Numbers are never touched. JSON and Parquet have all texts as they are.

use std::io::{Result, Write};

use domain::money::Total;

use crate::{Measures, SpendReport};

pub fn write(report: &SpendReport, out: &mut impl Write) -> Result<()> {
    let names = report.by.iter().map(|dimension| dimension.as_str().to_owned());
    line(out, names.chain(Measures::NAMES.map(str::to_owned)))?;
    for row in &report.rows {
        let keys = row.keys.iter().map(|key| key.as_deref().map(inert).unwrap_or_default());
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

/// The text as one that no spreadsheet takes for a formula. Blanks, control characters and full-width signs are what
/// spreadsheets overlook or read as their plain form.
fn inert(text: &str) -> String {
    let is_blank = |c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}';
    let is_sign = |c: char| matches!(c, '=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠' | '\u{2212}');
    let begins_blank = text.starts_with(|c: char| c.is_control());
    if begins_blank || text.starts_with('\'') || text.trim_start_matches(is_blank).starts_with(is_sign) {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}

/// Semicolons and tabs separate cells in some countries' spreadsheets: between quotes they do not.
fn quote(field: &str) -> String {
    if field.contains(['"', ',', ';', '\t', '\r', '\n']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a program does to get the value back.
    fn read_back(cell: &str) -> &str {
        cell.strip_prefix('\'').unwrap_or(cell)
    }

    #[test]
    fn a_text_that_a_spreadsheet_would_run_is_text() {
        for formula in [
            "=HYPERLINK(\"http://evil\",\"x\")",
            "+1+1",
            "-2+3",
            "@SUM(A1)",
            "\t=1",
            "\r=1",
            "\n=1",
            " =1",
            "\u{feff}=1",
            "＝1",
            "－1",
            "\u{2212}1",
            "'=1",
            "\tplain",
        ] {
            let cell = inert(formula);
            assert!(cell.starts_with('\''), "{formula:?} became {cell:?}");
            assert_eq!(read_back(&cell), formula);
        }
    }

    #[test]
    fn a_plain_text_stays_as_it_is() {
        for plain in ["", "acme", "2026-11-22", "acme=1", "a-b", "gpt-4o", "Müller", "a 'b'", "1"] {
            assert_eq!(inert(plain), plain);
            assert_eq!(read_back(plain), plain);
        }
    }

    #[test]
    fn what_separates_cells_elsewhere_is_quoted() {
        assert_eq!(quote("a;=1+1"), "\"a;=1+1\"");
        assert_eq!(quote("a\t=1"), "\"a\t=1\"");
        assert_eq!(quote("a"), "a");
    }
}
