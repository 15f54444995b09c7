//! Groups and sums.

use std::{collections::BTreeMap, fs, path::Path};

use domain::{LedgerRow, money::Total};
use polars::prelude::*;
use reports::{Dimension, Measures, ReportError, Source, SpendQuery, SpendReport, spend};

use crate::files::{call, day, write_lake};

pub fn query(by: &str) -> SpendQuery {
    let (from, to) = (day("2026-01-01"), day("2026-12-31"));
    SpendQuery { by: Dimension::parse_list(by).unwrap(), from, to, filters: Vec::new() }
}

fn report(folder: &Path, query: &SpendQuery) -> SpendReport {
    spend(&Source::folder(folder).unwrap(), query).unwrap()
}

fn keys(report: &SpendReport) -> Vec<Vec<&str>> {
    report.rows.iter().map(|row| row.keys.iter().map(|key| key.as_deref().unwrap_or("-")).collect()).collect()
}

/// Rows of three days, four teams, two models and every kind of end; costs as large as the ledger can hold.
fn many() -> Vec<LedgerRow> {
    let days = ["2026-03-09", "2026-03-10", "2026-04-01"].map(day);
    (0..5000u64)
        .map(|n| {
            let spread = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let cost = (n % 9 != 0).then_some((spread >> 1) as i64 / [1, 1_000_000, 1_000_000_000][(n % 3) as usize]);
            let mut row =
                call(days[(spread >> 60) as usize % 3], ["a", "b", "c", "d"][(spread >> 50) as usize % 4], cost);
            row.attempt_id = uuid::Uuid::from_u128(n.into());
            row.list_cost = cost.map(|cost| cost / 2);
            row.is_final = n % 4 != 0;
            row.customer = (n % 5 == 0).then(|| format!("customer-{}", n % 7));
            row.input_uncached = (n % 6 != 0).then_some(n as i64);
            row.output_audio = (n % 8 == 0).then_some(1);
            row.status = ["succeeded", "failed", "unknown_outcome"][(n % 10 / 4) as usize].into();
            row.record_kind = if n % 13 == 0 { "adjustment".into() } else { "original".into() };
            row.usage_source = (n % 17 != 0).then(|| if n % 3 == 0 { "estimated".into() } else { "provider".into() });
            row
        })
        .collect()
}

/// The same sums in the plainest way.
fn expected(rows: &[&LedgerRow]) -> Measures {
    let originals = || rows.iter().filter(|row| row.record_kind == "original");
    let count = |status: &str| originals().filter(|row| row.status == status).count() as i64;
    let money = |of: fn(&LedgerRow) -> Option<i64>| {
        let priced: Vec<i128> = rows.iter().filter_map(|row| of(row)).map(i128::from).collect();
        (!priced.is_empty()).then(|| Total(priced.iter().sum()))
    };
    let tokens = |of: fn(&LedgerRow) -> Vec<Option<i64>>| rows.iter().flat_map(|row| of(row)).flatten().sum();
    Measures {
        requests: originals().filter(|row| row.is_final).count() as i64,
        calls: originals().count() as i64,
        failed: count("failed"),
        unknown_outcome: count("unknown_outcome"),
        input_tokens: tokens(|row| vec![row.input_uncached, row.cache_read]),
        cache_read_tokens: tokens(|row| vec![row.cache_read]),
        output_tokens: tokens(|row| vec![row.output_text, row.output_reasoning, row.output_audio]),
        cost_usd: money(|row| row.contracted_cost),
        list_cost_usd: money(|row| row.list_cost),
        unpriced: rows.iter().filter(|row| row.price_status == "unpriced").count() as i64,
        estimated: rows.iter().filter(|row| row.usage_source.as_deref() == Some("estimated")).count() as i64,
    }
}

#[test]
fn every_group_and_the_total_are_exact() {
    let folder = tempfile::tempdir().unwrap();
    let rows = many();
    write_lake(folder.path(), &rows);
    let all: Vec<&LedgerRow> = rows.iter().collect();
    type Key = fn(&LedgerRow) -> Vec<Option<String>>;
    let cases: [(&str, Key); 5] = [
        ("", |_| vec![]),
        ("team", |row| vec![Some(row.team.clone())]),
        ("day,team", |row| vec![Some(row.usage_date.to_string()), Some(row.team.clone())]),
        ("customer,month", |row| vec![row.customer.clone(), Some(row.usage_date.format("%Y-%m").to_string())]),
        ("status,model,lane,key", |row| {
            vec![Some(row.status.clone()), Some(row.model_billed.clone()), Some(row.lane.clone()), None]
        }),
    ];
    for (by, key) in cases {
        let report = report(folder.path(), &query(by));
        let mut groups: BTreeMap<Vec<Option<String>>, Vec<&LedgerRow>> = BTreeMap::new();
        for row in &rows {
            groups.entry(key(row)).or_default().push(row);
        }
        let found: BTreeMap<_, _> = report.rows.iter().map(|row| (row.keys.clone(), row.measures)).collect();
        let wanted: BTreeMap<_, _> = groups.iter().map(|(key, rows)| (key.clone(), expected(rows))).collect();
        assert_eq!(found, wanted, "by {by:?}");
        assert_eq!(found.len(), report.rows.len(), "no group twice");
        assert_eq!(report.total, expected(&all), "by {by:?}");
    }
    assert!(expected(&all).cost_usd.unwrap().0 > i128::from(i64::MAX), "or the test would prove little");
}

#[test]
fn both_ends_of_the_range_are_included() {
    let folder = tempfile::tempdir().unwrap();
    let days = ["2026-03-08", "2026-03-09", "2026-03-10", "2026-03-11"].map(day);
    write_lake(folder.path(), &days.map(|day| call(day, "a", Some(1))));
    let report = report(folder.path(), &SpendQuery { from: days[1], to: days[2], ..query("day") });
    assert_eq!(keys(&report), [["2026-03-09"], ["2026-03-10"]]);
    assert_eq!(report.total.cost_usd, Some(Total(2)));
    let backwards = SpendQuery { from: days[2], to: days[1], ..query("day") };
    let error = spend(&Source::folder(folder.path()).unwrap(), &backwards).unwrap_err();
    assert!(matches!(error, ReportError::EmptyRange { .. }));
}

#[test]
fn time_goes_forward_and_cost_goes_down() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (day("2026-03-09"), day("2026-03-10"));
    let rows = [call(new, "a", Some(1)), call(new, "b", Some(5)), call(new, "c", None), call(old, "a", Some(2))];
    write_lake(folder.path(), &rows);
    let by_day = report(folder.path(), &query("team,day"));
    let wanted = [["a", "2026-03-09"], ["b", "2026-03-10"], ["a", "2026-03-10"], ["c", "2026-03-10"]];
    assert_eq!(keys(&by_day), wanted);
    assert_eq!(keys(&report(folder.path(), &query("team"))), [["b"], ["a"], ["c"]]);
}

#[test]
fn filters_take_values_and_missing_ones() {
    let folder = tempfile::tempdir().unwrap();
    let today = day("2026-03-09");
    let customer = |name: &str| LedgerRow { customer: Some(name.into()), ..call(today, "a", Some(1)) };
    let rows =
        [customer("acme"), customer("acme"), customer("other"), call(today, "a", Some(1)), call(today, "b", Some(1))];
    write_lake(folder.path(), &rows);
    let calls = |filters: &[&str]| {
        let filters = filters.iter().map(|filter| filter.parse().unwrap()).collect();
        report(folder.path(), &SpendQuery { filters, ..query("") }).total.calls
    };
    assert_eq!(calls(&["customer=acme"]), 2);
    assert_eq!(calls(&["customer=acme,other"]), 3);
    assert_eq!(calls(&["customer="]), 2);
    assert_eq!(calls(&["customer=", "team=b"]), 1);
    assert_eq!(calls(&["team=nobody"]), 0);
    let by_day = SpendQuery { filters: vec!["day=2026-03-09".parse().unwrap()], ..query("") };
    let error = spend(&Source::folder(folder.path()).unwrap(), &by_day).unwrap_err();
    assert!(matches!(error, ReportError::TimeFilter("day")), "{error}");
}

#[test]
fn a_correction_is_no_call() {
    let folder = tempfile::tempdir().unwrap();
    let today = day("2026-03-09");
    let unknown = LedgerRow { status: "unknown_outcome".into(), ..call(today, "a", Some(100)) };
    let reversal = LedgerRow {
        record_kind: "reversal".into(),
        contracted_cost: Some(-100),
        input_uncached: Some(-70),
        ..unknown.clone()
    };
    write_lake(folder.path(), &[unknown, reversal, call(today, "a", Some(7))]);
    let total = report(folder.path(), &query("team")).total;
    assert_eq!((total.calls, total.requests, total.unknown_outcome), (2, 2, 1));
    assert_eq!((total.cost_usd, total.input_tokens), (Some(Total(7)), 160));
}

#[test]
fn what_has_no_price_is_not_free() {
    let folder = tempfile::tempdir().unwrap();
    let today = day("2026-03-09");
    write_lake(folder.path(), &[call(today, "free", Some(0)), call(today, "unpriced", None)]);
    let report = report(folder.path(), &query("team"));
    let costs: Vec<_> =
        report.rows.iter().map(|row| (row.keys[0].as_deref().unwrap(), row.measures.cost_usd)).collect();
    assert_eq!(costs, [("free", Some(Total(0))), ("unpriced", None)]);
    assert_eq!(report.total.cost_usd, Some(Total(0)));
    assert_eq!(report.note.as_deref(), Some("1 rows have no price; the cost is without them."));
}

#[test]
fn an_empty_lake_is_a_report_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    write_lake(folder.path(), &[]);
    let empty = report(folder.path(), &query("team"));
    assert_eq!((empty.rows.len(), empty.total.calls, empty.files), (0, 0, 0));
    let note = empty.note.unwrap();
    assert!(note.ends_with("has no calls from 2026-01-01 to 2026-12-31. Calls reach it by the next export."), "{note}");

    write_lake(folder.path(), &[call(day("2026-03-09"), "a", Some(1))]);
    let filters = vec!["team=nobody".parse().unwrap()];
    let none = report(folder.path(), &SpendQuery { filters, ..query("") });
    assert_eq!((none.rows.len(), none.note.as_deref()), (0, Some("No calls from 2026-01-01 to 2026-12-31 match.")));
}

#[test]
fn a_place_without_a_manifest_is_no_lake() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for place in [folder.path().to_owned(), folder.path().join("nope"), file] {
        let error = Source::folder(&place).unwrap_err();
        assert!(matches!(error, ReportError::NoLake { .. }), "{error}");
        assert!(error.to_string().contains(&place.display().to_string()), "{error}");
    }
    assert!(!folder.path().join("nope").exists(), "nothing is made by looking");
}

#[test]
fn only_what_the_manifest_lists_counts() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = write_lake(folder.path(), &[call(day("2026-03-09"), "a", Some(1))]);
    let listed = folder.path().join(&manifest.files[0].name);
    fs::copy(&listed, listed.with_file_name("seg-99.parquet")).unwrap();
    assert_eq!(report(folder.path(), &query("")).total.calls, 1);

    fs::remove_file(&listed).unwrap();
    let error = spend(&Source::folder(folder.path()).unwrap(), &query("")).unwrap_err();
    assert!(matches!(error, ReportError::Lake(_)), "{error}");
    fs::write(folder.path().join("_manifest.json"), "{").unwrap();
    assert!(matches!(Source::folder(folder.path()), Err(ReportError::Source { .. })));
}

/// The lake lies in a folder that looks like a partition of one of its own columns.
#[test]
fn folders_above_the_lake_are_no_columns() {
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("team=evil/[a]*");
    fs::create_dir_all(&lake).unwrap();
    write_lake(&lake, &[call(day("2026-03-09"), "good", Some(1))]);
    assert_eq!(keys(&report(&lake, &query("team,day"))), [["good", "2026-03-09"]]);
}

/// A file of a newer version has a column more, one of an older version a column less.
#[test]
fn files_of_several_versions_are_read_together() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<LedgerRow> = (0..4).map(|_| call(day("2026-03-09"), "a", Some(1))).collect();
    let manifest = write_lake(folder.path(), &rows);
    let path = |n: usize| folder.path().join(&manifest.files[n].name);
    let frame = |n: usize| ParquetReader::new(fs::File::open(path(n)).unwrap()).finish().unwrap();
    let write = |n: usize, mut frame: DataFrame| {
        ParquetWriter::new(fs::File::create(path(n)).unwrap()).finish(&mut frame).unwrap();
    };
    let mut newer = frame(0);
    newer.with_column(Column::new("co2_grams".into(), [1.0f64, 2.0])).unwrap();
    write(0, newer);
    write(1, frame(1).drop("cost_center").unwrap());
    let report = report(folder.path(), &query("cost_center"));
    assert_eq!((keys(&report), report.total.calls), (vec![vec!["-"]], 4));
}
