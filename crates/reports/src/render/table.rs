//! For people: numbers to the right, thousands apart, cents or as many places as the smallest amount needs, and as many as it takes
//! for the rows to add up to their total.

use comfy_table::{Cell, CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use domain::money::{Total, div_half_even};

use crate::{Measures, SpendReport, figures::thousands};

/// A column of the table.
struct Measure {
    title: &'static str,
    show: fn(&Measures, usize) -> String,
    /// Left out where it is zero everywhere.
    rare: bool,
}

const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

const MEASURES: [Measure; 11] = [
    Measure { title: "Requests", show: |m, _| thousands(m.requests.into()), rare: false },
    Measure { title: "Calls", show: |m, _| thousands(m.calls.into()), rare: false },
    Measure { title: "Failed", show: |m, _| thousands(m.failed.into()), rare: true },
    Measure { title: "Unknown", show: |m, _| thousands(m.unknown_outcome.into()), rare: true },
    Measure { title: "Input tokens", show: |m, _| thousands(m.input_tokens.into()), rare: false },
    Measure { title: "Cached", show: |m, _| thousands(m.cache_read_tokens.into()), rare: true },
    Measure { title: "Output tokens", show: |m, _| thousands(m.output_tokens.into()), rare: true },
    Measure { title: "Cost USD", show: |m, places| money(m.cost_usd, places), rare: false },
    Measure { title: "List USD", show: |m, places| money(m.list_cost_usd, places), rare: false },
    Measure { title: "Unpriced", show: |m, _| thousands(m.unpriced.into()), rare: true },
    Measure { title: "Estimated", show: |m, _| thousands(m.estimated.into()), rare: true },
];

/// The report as text, without a newline at the end. Amounts are rounded half to even; the other formats are exact.
pub fn table(report: &SpendReport) -> String {
    let title = match report.from == report.to {
        true => format!("Spend on {}, UTC", report.from),
        false => format!("Spend from {} to {}, UTC", report.from, report.to),
    };
    if report.rows.is_empty() {
        return format!("{title}\n{}\n{}", report.note.as_deref().unwrap_or_default(), report.lake.sentence());
    }
    let places = places(report);
    let shown: Vec<&Measure> =
        MEASURES.iter().filter(|measure| !measure.rare || (measure.show)(&report.total, places) != "0").collect();
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled);
    let names = report.by.iter().map(|dimension| Cell::new(heading(dimension.as_str())));
    table.set_header(names.chain(shown.iter().map(|measure| right(measure.title.to_owned()))));
    let numbers = |measures: &Measures| shown.iter().map(|m| right((m.show)(measures, places))).collect::<Vec<_>>();
    for row in &report.rows {
        let keys = row.keys.iter().map(|key| Cell::new(key.as_deref().map(plain).unwrap_or_else(|| "–".to_owned())));
        table.add_row(keys.chain(numbers(&row.measures)).collect::<Vec<_>>());
    }
    let with_total = !report.by.is_empty() && report.rows.len() > 1;
    if with_total {
        let label = (0..report.by.len()).map(|n| Cell::new(if n == 0 { "Total" } else { "" }));
        table.add_row(label.chain(numbers(&report.total)).collect::<Vec<_>>());
    }
    let mut lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    if with_total {
        // The line under the head again, above the last row.
        lines.insert(lines.len() - 1, lines[1].clone());
    }
    lines.insert(0, title);
    lines.extend(report.note.clone());
    lines.push(report.lake.sentence());
    lines.join("\n")
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// `cost_center` as `Cost center`.
fn heading(word: &str) -> String {
    let mut text = word.replace('_', " ");
    text[..1].make_ascii_uppercase();
    text
}

/// Tags come from callers: nothing in them may steer a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Decimals of all amounts: the smallest amount still shows two digits, and each column's rounded rows add up to its rounded
/// total. At least cents, at most pico-dollars, where nothing is rounded.
fn places(report: &SpendReport) -> usize {
    let columns: [fn(&Measures) -> Option<Total>; 2] = [|m| m.cost_usd, |m| m.list_cost_usd];
    let amounts = || report.rows.iter().flat_map(|row| columns.map(|of| of(&row.measures)));
    let smallest = amounts().flatten().map(|total| total.0.unsigned_abs()).filter(|pico| *pico > 0).min();
    // 10^12 pico-dollars are a dollar: an amount of d digits begins at decimal place 13 - d.
    let least = smallest.map_or(2, |pico| (14usize.saturating_sub(pico.to_string().len())).clamp(2, 12));
    let adds_up = |places: usize, of: fn(&Measures) -> Option<Total>| {
        let shown = |measures: &Measures| of(measures).map_or(0, |total| rounded(total, places));
        report.rows.iter().map(|row| shown(&row.measures)).sum::<i128>() == shown(&report.total)
    };
    (least..12).find(|places| columns.iter().all(|of| adds_up(*places, *of))).unwrap_or(12)
}

/// In units of the last decimal that is shown.
fn rounded(Total(pico): Total, places: usize) -> i128 {
    div_half_even(pico, 10i128.pow(12 - places as u32))
}

fn money(total: Option<Total>, places: usize) -> String {
    let Some(total) = total else { return "–".to_owned() };
    let rounded = rounded(total, places);
    let one = 10i128.pow(places as u32);
    let sign = if rounded < 0 { "-" } else { "" };
    let (whole, rest) = (rounded.abs() / one, rounded.abs() % one);
    format!("{sign}{}.{rest:0places$}", thousands(whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dimension, SpendRow};

    #[test]
    fn numbers_are_read_at_a_glance() {
        assert_eq!([0, 999, 1000, -1234567].map(thousands), ["0", "999", "1,000", "-1,234,567"]);
        let usd = 1_000_000_000_000;
        assert_eq!(money(Some(Total(1234 * usd + 5_000_000_000)), 2), "1,234.00", "half goes to the even cent");
        assert_eq!(money(Some(Total(1234 * usd + 15_000_000_000)), 2), "1,234.02");
        assert_eq!(money(Some(Total(-20_000_000)), 6), "-0.000020");
        assert_eq!(money(Some(Total(7)), 12), "0.000000000007");
        assert_eq!(money(None, 2), "–");
    }

    /// A report whose rows have these costs.
    fn report(pico: &[i128]) -> SpendReport {
        let row = |pico: &i128| SpendRow {
            by: vec![Dimension::Team],
            keys: vec![Some(format!("team {pico}"))],
            measures: Measures { cost_usd: Some(Total(*pico)), ..Measures::default() },
        };
        let rows: Vec<SpendRow> = pico.iter().map(row).collect();
        let day = chrono::NaiveDate::from_ymd_opt(2026, 11, 22).unwrap();
        SpendReport {
            by: vec![Dimension::Team],
            from: day,
            to: day,
            total: rows.iter().map(|row| &row.measures).sum(),
            rows,
            files: 1,
            note: None,
            lake: crate::Freshness::default(),
        }
    }

    #[test]
    fn shown_rows_add_up_to_the_shown_total() {
        const CENT: i128 = 10_000_000_000;
        // Three times a third of a cent and more: 0.33 + 0.33 + 0.33 is not 1.00.
        assert_eq!(places(&report(&[33 * CENT + CENT / 3; 3])), 12);
        assert_eq!(places(&report(&[12 * CENT + CENT / 2, 12 * CENT + CENT / 2])), 3);
        assert_eq!(places(&report(&[12 * CENT, 13 * CENT])), 2, "cents suffice");
        assert_eq!(places(&report(&[-12 * CENT - CENT / 10, 13 * CENT + CENT / 10])), 2);
        for seed in 1i128..200 {
            let costs: Vec<i128> = (1..=seed % 9 + 1).map(|n| seed * 7_919_777_123 * n % (100 * CENT) + CENT).collect();
            let report = report(&costs);
            let places = places(&report);
            let shown: i128 = costs.iter().map(|pico| rounded(Total(*pico), places)).sum();
            assert_eq!(shown, rounded(report.total.cost_usd.unwrap(), places), "{costs:?} at {places} places");
        }
    }

    #[test]
    fn a_value_cannot_steer_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb"), "a\u{fffd}[2Jb");
    }
}
