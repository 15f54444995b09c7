//! What a file looks like to others, and that it loses nothing.

use std::{fs::File, io::Write};

use arrow_schema::DataType;
use chrono::{DateTime, NaiveDate, Utc};
use domain::LedgerRow;
use lake::{
    columns,
    digest::Digest,
    file::{FileWriter, Order, ROW_GROUP, Rows},
};
use parquet::{
    arrow::arrow_reader::ParquetRecordBatchReaderBuilder,
    basic::Compression,
    file::{properties::ReaderProperties, reader::FileReader, serialized_reader::*},
};
use proptest::prelude::*;
use tempfile::NamedTempFile;
use uuid::Uuid;

use crate::ledger::{day, row};

fn write(rows: &[LedgerRow], order: Order) -> (NamedTempFile, Digest) {
    let mut writer = FileWriter::new(NamedTempFile::new().unwrap(), rows.len() as u64, order).unwrap();
    for row in rows {
        writer.push(row).unwrap();
    }
    let (mut file, digest) = writer.finish().unwrap();
    file.flush().unwrap();
    (file, digest)
}

fn read(file: &NamedTempFile, usage_date: NaiveDate) -> Vec<LedgerRow> {
    Rows::open("test", file.reopen().unwrap(), usage_date).unwrap().collect::<Result<_, _>>().unwrap()
}

fn any_time() -> impl Strategy<Value = DateTime<Utc>> {
    (-60_000_000_000_000_000i64..250_000_000_000_000_000).prop_map(|us| DateTime::from_timestamp_micros(us).unwrap())
}

/// A row in which every kind of column takes any value the ledger can hold.
fn any_row() -> impl Strategy<Value = LedgerRow> {
    let texts = (any::<String>(), any::<Option<String>>(), any::<Option<String>>());
    let numbers = (any::<i32>(), any::<Option<i32>>(), any::<Option<i64>>(), any::<i64>(), 0..=i64::MAX);
    let money = (any::<Option<i64>>(), any::<Option<i64>>(), any::<Option<i64>>());
    let ids = (any::<u128>(), any::<Option<u128>>(), any::<bool>());
    (texts, numbers, money, ids, any_time(), any_time()).prop_map(|(texts, numbers, money, ids, at, then)| LedgerRow {
        attempt_id: Uuid::from_u128(ids.0),
        corrects_attempt_id: ids.1.map(Uuid::from_u128),
        is_final: ids.2,
        request_id: texts.0,
        custom_id: texts.1,
        customer: texts.2,
        attempt_no: numbers.0,
        http_status: numbers.1,
        prompt_total: numbers.2,
        worker_id: numbers.3,
        job_id: Some(numbers.4),
        contracted_cost: money.0,
        cost_input: money.1,
        reserved: money.2,
        requested_at: at,
        completed_at: then,
        ..row(1, day("2026-03-10"))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Pico-dollars above all: the decimal has the same digits, up to the largest a bigint holds.
    #[test]
    fn rows_come_back_as_they_were(rows in proptest::collection::vec(any_row(), 1..20)) {
        let (file, digest) = write(&rows, Order::Attempt);
        let back = read(&file, rows[0].usage_date);
        prop_assert_eq!(&back, &rows);
        prop_assert_eq!(digest.rows, rows.len() as u64);
    }

    #[test]
    fn canonical_bytes_are_a_row_and_nothing_else(row in any_row(), cut in any::<prop::sample::Index>()) {
        let mut bytes = Vec::new();
        columns::encode(&row, &mut bytes);
        let shorter = &bytes[..cut.index(bytes.len())];
        prop_assert!(columns::decode(shorter) != Some(row.clone()));
        prop_assert_eq!(columns::decode(&bytes), Some(row));
    }
}

#[test]
fn every_column_counts() {
    let a = row(4, day("2026-03-10"));
    let b = row(5, day("2026-03-11"));
    let names: Vec<&str> = columns::differing(&a, &b).into_iter().map(|(name, ..)| name).collect();
    assert!(names.contains(&"usage_date") && names.contains(&"contracted_cost") && names.contains(&"http_status"));
    assert_eq!(columns::differing(&a, &a), []);
    let json = serde_json::to_value(&a).unwrap();
    let fields: Vec<&str> =
        json.as_object().unwrap().keys().map(String::as_str).filter(|f| *f != "usage_date").collect();
    assert_eq!(fields, columns::NAMES, "the file has the ledger's columns, in its order");
}

#[test]
fn a_reader_sees_plain_types_and_finds_what_it_needs() {
    let rows: Vec<LedgerRow> = (0..2000).map(|n| row(n, day("2026-03-10"))).collect();
    let (file, digest) = write(&rows, Order::Billing);
    let builder = ParquetRecordBatchReaderBuilder::try_new(file.reopen().unwrap()).unwrap();
    let schema = builder.schema().clone();
    assert!(schema.column_with_name("usage_date").is_none(), "readers take it from the path");
    assert_eq!(schema.field_with_name("contracted_cost").unwrap().data_type(), &DataType::Decimal128(18, 12));
    assert_eq!(schema.field_with_name("job_id").unwrap().data_type(), &DataType::Utf8);
    let footer = builder.metadata().file_metadata();
    let notes: Vec<(&str, Option<&str>)> =
        footer.key_value_metadata().unwrap().iter().map(|note| (note.key.as_str(), note.value.as_deref())).collect();
    let hash = digest.hash();
    assert_eq!(notes, [("schema_version", Some("1")), ("content_hash", Some(hash.as_str()))]);

    let options = ReadOptionsBuilder::new()
        .with_reader_properties(ReaderProperties::builder().set_read_bloom_filter(true).build())
        .with_page_index()
        .build();
    let reader = SerializedFileReader::new_with_options(file.reopen().unwrap(), options).unwrap();
    assert!(reader.metadata().offset_index().is_some() && reader.metadata().column_index().is_some());
    let group = reader.metadata().row_group(0);
    let sorted: Vec<&str> =
        group.sorting_columns().unwrap().iter().map(|sorting| columns::NAMES[sorting.column_idx as usize]).collect();
    assert_eq!(sorted, ["team", "provider", "model_billed", "completed_at"]);
    assert!(matches!(group.column(0).compression(), Compression::ZSTD(_)));
    for name in ["attempt_id", "request_id", "customer"] {
        let place = columns::NAMES.iter().position(|column| *column == name).unwrap();
        let filter = reader.get_row_group(0).unwrap().get_column_bloom_filter(place).cloned().unwrap();
        assert!(!filter.check(&"not in the file"), "{name}");
        if name == "request_id" {
            assert!(rows.iter().all(|row| filter.check(&row.request_id.as_str())));
        }
    }
}

#[test]
fn row_groups_are_bounded() {
    let rows: Vec<LedgerRow> = (0..ROW_GROUP as u64 + 1).map(|n| row(n, day("2026-03-10"))).collect();
    let (file, digest) = write(&rows, Order::Attempt);
    let reader = SerializedFileReader::new(File::open(file.path()).unwrap()).unwrap();
    let groups: Vec<i64> = reader.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(groups, [ROW_GROUP as i64, 1]);
    assert_eq!(lake::file::digest_of("test", file.reopen().unwrap(), day("2026-03-10")).unwrap(), digest);
}
