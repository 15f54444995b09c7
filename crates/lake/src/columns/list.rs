//! The list. Columns are appended, never moved and never changed: a column's place is its number in the canonical bytes.

use std::sync::{Arc, LazyLock};

use arrow_array::{Array, ArrayRef, RecordBatch, builder::ArrayBuilder};
use arrow_schema::{Field, Schema, SchemaRef};
use chrono::NaiveDate;
use domain::LedgerRow;

use super::{
    kind::{Big, Column, Flag, Int, Kind, Pico, Required, Time, take_bytes},
    text::{Id, Job, Text},
};

type ArrayOf<C> = <<C as Column>::Kind as Kind>::Array;
type BuilderOf<C> = <<C as Column>::Kind as Kind>::Builder;

fn field<C: Column>(name: &str) -> Field {
    Field::new(name, C::Kind::data_type(), C::NULLABLE)
}

fn append<C: Column>(builder: &mut BuilderOf<C>, value: &C::Value) {
    match C::present(value) {
        Some(value) => C::Kind::append(builder, value),
        None => C::Kind::append_null(builder),
    }
}

/// The array of a column. An older file may lack a column that can be null.
fn array<'a, C: Column>(batch: &'a RecordBatch, name: &str) -> Result<Option<&'a ArrayOf<C>>, String> {
    match batch.column_by_name(name) {
        Some(column) => match column.as_any().downcast_ref() {
            Some(array) => Ok(Some(array)),
            None => Err(format!("column {name} has type {} instead of {}", column.data_type(), C::Kind::data_type())),
        },
        None if C::NULLABLE => Ok(None),
        None => Err(format!("column {name} is missing")),
    }
}

fn get<C: Column>(array: Option<&ArrayOf<C>>, row: usize, name: &str) -> Result<C::Value, String> {
    let bad = || format!("column {name} has no valid value in row {row} of its batch");
    let value = match array {
        Some(array) if !array.is_null(row) => Some(C::Kind::get(array, row).ok_or_else(bad)?),
        _ => None,
    };
    C::from(value).ok_or_else(bad)
}

fn put<C: Column>(number: u8, value: &C::Value, out: &mut Vec<u8>) {
    if let Some(value) = C::present(value) {
        out.push(number);
        C::Kind::put(value, out);
    }
}

fn take<C: Column>(number: u8, bytes: &mut &[u8]) -> Option<C::Value> {
    let present = bytes.first() == Some(&number);
    if present {
        take_bytes::<1>(bytes)?;
        return C::from(Some(C::Kind::take(bytes)?));
    }
    C::from(None)
}

macro_rules! columns {
    ($($name:ident: $column:ty),+ $(,)?) => {
        #[expect(non_camel_case_types, reason = "a column's number is its place in the list")]
        #[derive(Clone, Copy)]
        enum ColumnIndex { $($name),+ }

        /// The columns of a file, in order.
        pub const NAMES: &[&str] = &[$(stringify!($name)),+];

        static SCHEMA: LazyLock<SchemaRef> =
            LazyLock::new(|| Arc::new(Schema::new(vec![$(field::<$column>(stringify!($name))),+])));

        /// Collects rows into arrays.
        pub struct Builders { $($name: BuilderOf<$column>),+ }

        impl Builders {
            pub fn new(capacity: usize) -> Self {
                Self { $($name: <$column as Column>::Kind::builder(capacity)),+ }
            }
            pub fn push(&mut self, row: &LedgerRow) {
                $(append::<$column>(&mut self.$name, &row.$name);)+
            }
            /// The rows so far, in the schema's order; the builders are empty afterwards.
            pub fn finish(&mut self) -> Vec<ArrayRef> {
                vec![$(ArrayBuilder::finish(&mut self.$name)),+]
            }
        }

        /// The arrays of a batch that came from a file.
        pub struct Readers<'a> { $($name: Option<&'a ArrayOf<$column>>),+ }

        impl<'a> Readers<'a> {
            /// Fails with the reason when a column is missing or has another type.
            pub fn new(batch: &'a RecordBatch) -> Result<Self, String> {
                Ok(Self { $($name: array::<$column>(batch, stringify!($name))?),+ })
            }
            /// `usage_date` comes from the file's path.
            pub fn row(&self, row: usize, usage_date: NaiveDate) -> Result<LedgerRow, String> {
                Ok(LedgerRow { usage_date, $($name: get::<$column>(self.$name, row, stringify!($name))?),+ })
            }
        }

        pub(super) fn put_all(row: &LedgerRow, out: &mut Vec<u8>) {
            $(put::<$column>(ColumnIndex::$name as u8, &row.$name, out);)+
        }

        pub(super) fn take_all(usage_date: NaiveDate, bytes: &mut &[u8]) -> Option<LedgerRow> {
            Some(LedgerRow { usage_date, $($name: take::<$column>(ColumnIndex::$name as u8, bytes)?),+ })
        }

        /// The columns in which two rows differ: name, first value, second value.
        pub fn differing(a: &LedgerRow, b: &LedgerRow) -> Vec<(&'static str, String, String)> {
            let mut found = Vec::new();
            $(if a.$name != b.$name {
                found.push((stringify!($name), format!("{:?}", a.$name), format!("{:?}", b.$name)));
            })+
            if a.usage_date != b.usage_date {
                found.push(("usage_date", a.usage_date.to_string(), b.usage_date.to_string()));
            }
            found
        }
    };
}

pub fn schema() -> SchemaRef {
    SCHEMA.clone()
}

columns! {
    attempt_id: Required<Id>,
    request_id: Required<Text>,
    job_id: Option<Job>,
    custom_id: Option<Text>,
    provider_request_id: Option<Text>,
    attempt_no: Required<Int>,
    attempt_reason: Required<Text>,
    fallback_from: Option<Text>,
    is_final: Required<Flag>,
    record_kind: Required<Text>,
    corrects_attempt_id: Option<Id>,
    requested_at: Required<Time>,
    completed_at: Required<Time>,
    recorded_at: Required<Time>,
    reserved_at: Required<Time>,
    team: Required<Text>,
    environment: Required<Text>,
    feature: Required<Text>,
    customer: Option<Text>,
    cost_center: Option<Text>,
    key_id: Option<Text>,
    tags_json: Option<Text>,
    worker_id: Required<Big>,
    provider: Required<Text>,
    deployment: Required<Text>,
    billing_account: Option<Text>,
    provider_project: Option<Text>,
    region: Option<Text>,
    model_requested: Required<Text>,
    model_billed: Required<Text>,
    service_tier: Option<Text>,
    processing: Required<Text>,
    lane: Required<Text>,
    input_uncached: Option<Big>,
    cache_read: Option<Big>,
    cache_write_5m: Option<Big>,
    cache_write_1h: Option<Big>,
    input_audio: Option<Big>,
    input_image: Option<Big>,
    output_text: Option<Big>,
    output_reasoning: Option<Big>,
    output_audio: Option<Big>,
    prompt_total: Option<Big>,
    usage_source: Option<Text>,
    queue_ms: Option<Big>,
    ttft_ms: Option<Big>,
    latency_ms: Option<Big>,
    status: Required<Text>,
    http_status: Option<Int>,
    error_class: Option<Text>,
    billable: Required<Flag>,
    cache_hit: Required<Flag>,
    reserved: Option<Pico>,
    cost_input: Option<Pico>,
    cost_cache_read: Option<Pico>,
    cost_cache_write: Option<Pico>,
    cost_output: Option<Pico>,
    cost_other: Option<Pico>,
    list_cost: Option<Pico>,
    contracted_cost: Option<Pico>,
    cost_if_uncached: Option<Pico>,
    cost_if_not_batch: Option<Pico>,
    price_version: Option<Text>,
    price_status: Required<Text>,
}
