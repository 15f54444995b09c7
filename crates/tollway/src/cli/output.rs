//! What commands print: tables for people, JSON for programs.

use std::io::{IsTerminal, Write};

use chrono::{DateTime, Utc};
use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables and sentences.
    #[value(alias = "table")]
    Human,
    /// One document; one a line where there are many.
    Json,
    /// Reports only.
    Csv,
    /// Reports only.
    Parquet,
}

/// To standard output. A reader that went away is an error of its own kind, see [`super::failure`].
pub fn line(text: impl AsRef<[u8]>) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_ref())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// To standard error: progress and notes, never the answer itself.
pub fn note(text: impl std::fmt::Display) {
    // Nobody is there to be told that nobody reads it.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

pub fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    let text = if std::io::stdout().is_terminal() {
        serde_json::to_string_pretty(value)?
    } else {
        serde_json::to_string(value)?
    };
    Ok(line(text)?)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Aligned columns without lines. With no rows, `empty` stands in their place.
pub fn table(columns: &[(&str, Align)], rows: Vec<Vec<String>>, empty: &str) -> std::io::Result<()> {
    if rows.is_empty() {
        return line(empty);
    }
    line(layout(columns, rows))
}

fn layout(columns: &[(&str, Align)], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns.iter().map(|(name, _)| name.to_uppercase()).collect::<Vec<_>>());
    table.add_rows(rows);
    for ((_, align), column) in columns.iter().zip(table.column_iter_mut()) {
        column.set_padding((0, 2));
        column.set_cell_alignment(match align {
            Align::Left => CellAlignment::Left,
            Align::Right => CellAlignment::Right,
        });
    }
    table.trim_fmt()
}

/// `1234567` as `1,234,567`.
pub fn count(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if n < 0 { format!("-{text}") } else { text }
}

/// `90` as `1m 30s`, `0.42` as `0.4s`.
pub fn duration(seconds: f64) -> String {
    if (0.05..9.95).contains(&seconds) && seconds.fract() != 0.0 {
        return format!("{seconds:.1}s");
    }
    let s = seconds.max(0.0).round() as u64;
    match s {
        0..=59 => format!("{s}s"),
        60..=3599 => format!("{}m {}s", s / 60, s % 60),
        3600..=86_399 => format!("{}h {}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d {}h", s / 86_400, s % 86_400 / 3600),
    }
}

pub fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

pub fn optional(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_without_idle_space() {
        let rows = vec![vec!["prod".to_owned(), "7".to_owned()], vec!["standard".to_owned(), "12".to_owned()]];
        let text = layout(&[("lane", Align::Left), ("waiting", Align::Right)], rows);
        assert_eq!(text, "LANE      WAITING\nprod            7\nstandard       12");
    }

    #[test]
    fn figures_read_easily() {
        assert_eq!([0, 999, 1000, 1_234_567, -1000].map(count), ["0", "999", "1,000", "1,234,567", "-1,000"]);
        assert_eq!([0.42, 4.0, 12.4].map(duration), ["0.4s", "4s", "12s"]);
        assert_eq!([90.0, 3661.0, 90_000.0].map(duration), ["1m 30s", "1h 1m", "1d 1h"]);
    }
}
