//! The same report in every format.

use std::io::Cursor;

use domain::LedgerRow;
use polars::prelude::*;
use reports::{Behind, Format, ReportError, Source, SpendReport, render, spend};

use crate::{
    files::{call, day, write_lake},
    groups::query,
};

fn report() -> SpendReport {
    let folder = tempfile::tempdir().unwrap();
    let today = day("2026-03-09");
    let named = LedgerRow { customer: Some("acme, \"Ltd\"".into()), ..call(today, "search", Some(1_234_567_890_123)) };
    let failed = LedgerRow { status: "failed".into(), is_final: false, ..call(today, "chat", Some(20_000_000)) };
    let mut rows = vec![named, failed, call(today, "chat", Some(1))];
    rows.extend((0..1500).map(|_| call(today, "search", None)));
    write_lake(folder.path(), &rows);
    let behind = Behind { rows: 12, since: Some("2026-03-09T12:00:00Z".parse().unwrap()) };
    let source = Source::folder(folder.path()).unwrap().with_behind(Some(behind));
    spend(&source, &query("team,customer")).unwrap()
}

fn rendered(format: &str) -> Vec<u8> {
    let mut out = Vec::new();
    render(&report(), format.parse().unwrap(), &mut out).unwrap();
    out
}

#[test]
fn a_table_is_for_people() {
    let wanted = "\
Spend from 2026-01-01 to 2026-12-31, UTC
 Team     Customer      Requests   Calls   Failed   Input tokens   Cached   Output tokens   Cost USD   List USD   Unpriced
───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
 search   acme, \"Ltd\"          1       1        0            100       30               7   1.234568   1.234568          0
 chat     –                    1       2        1            200       60              14   0.000020   0.000020          0
 search   –                1,500   1,500        0        150,000   45,000          10,500          –          –      1,500
───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
 Total                     1,502   1,503        1        150,300   45,090          10,521   1.234588   1.234588      1,500
1500 rows have no price; the cost is without them.
The lake is behind the ledger: this report is without 12 ledger rows of these days (the oldest written at 2026-03-09 12:00:00 UTC).
";
    assert_eq!(String::from_utf8(rendered("table")).unwrap(), wanted);
}

#[test]
fn csv_is_exact_and_quoted() {
    let csv = String::from_utf8(rendered("csv")).unwrap();
    let wanted = "team,customer,requests,calls,failed,unknown_outcome,input_tokens,cache_read_tokens,output_tokens,cost_usd,\
                  list_cost_usd,unpriced,estimated\r\n\
                  search,\"acme, \"\"Ltd\"\"\",1,1,0,0,100,30,7,1.234567890123,1.234567890123,0,0\r\n\
                  chat,,1,2,1,0,200,60,14,0.000020000001,0.000020000001,0,0\r\n\
                  search,,1500,1500,0,0,150000,45000,10500,,,1500,0\r\n";
    assert_eq!(csv, wanted);
}

#[test]
fn json_has_money_as_text() {
    let json: serde_json::Value = serde_json::from_slice(&rendered("json")).unwrap();
    assert_eq!(json["rows"][0]["customer"], "acme, \"Ltd\"");
    assert_eq!(json["rows"][0]["cost_usd"], "1.234567890123");
    assert_eq!(json["rows"][2]["cost_usd"], serde_json::Value::Null);
    assert_eq!(json["total"]["cost_usd"], "1.234587890124");
    assert_eq!(json["lake"]["rows_behind"], 12);
    assert_eq!(json["lake"]["behind_since"], "2026-03-09T12:00:00Z");
    assert_eq!((&json["by"][0], &json["from"]), (&"team".into(), &"2026-01-01".into()));
}

#[test]
fn parquet_has_decimals() {
    let frame = ParquetReader::new(Cursor::new(rendered("parquet"))).finish().unwrap();
    assert_eq!(frame.height(), 3);
    let cost = frame.column("cost_usd").unwrap();
    assert_eq!(cost.dtype(), &DataType::Decimal(38, 12));
    let digits: Vec<Option<i128>> = cost.decimal().unwrap().physical().iter().collect();
    assert_eq!(digits, [Some(1_234_567_890_123), Some(20_000_001), None]);
    assert_eq!(frame.column("customer").unwrap().null_count(), 2);
}

#[test]
fn an_unknown_format_is_answered_with_the_nearest() {
    let error = "jsn".parse::<Format>().unwrap_err();
    assert!(matches!(error, ReportError::UnknownFormat { nearest: Some("json"), .. }), "{error}");
}
