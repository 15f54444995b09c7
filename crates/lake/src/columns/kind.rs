//! The kinds of value a ledger column can have: how each looks in Arrow, and in the canonical bytes.

use arrow_array::{
    Array, BooleanArray, Decimal128Array, Int32Array, Int64Array, TimestampMicrosecondArray,
    builder::{
        ArrayBuilder, BooleanBuilder, Decimal128Builder, Int32Builder, Int64Builder, TimestampMicrosecondBuilder,
    },
};
use arrow_schema::{DataType, TimeUnit};
use chrono::{DateTime, Utc};

/// A column's cell, present or not.
pub trait Column {
    type Kind: Kind;
    type Value;
    const NULLABLE: bool;
    fn present(value: &Self::Value) -> Option<&<Self::Kind as Kind>::Value>;
    /// `None` when the value is missing and must not be.
    fn from(value: Option<<Self::Kind as Kind>::Value>) -> Option<Self::Value>;
}

/// A column that is never null.
pub struct Required<K>(std::marker::PhantomData<K>);

impl<K: Kind> Column for Required<K> {
    type Kind = K;
    type Value = K::Value;
    const NULLABLE: bool = false;
    fn present(value: &K::Value) -> Option<&K::Value> {
        Some(value)
    }
    fn from(value: Option<K::Value>) -> Option<K::Value> {
        value
    }
}

impl<K: Kind> Column for Option<K> {
    type Kind = K;
    type Value = Option<K::Value>;
    const NULLABLE: bool = true;
    fn present(value: &Option<K::Value>) -> Option<&K::Value> {
        value.as_ref()
    }
    fn from(value: Option<K::Value>) -> Option<Option<K::Value>> {
        Some(value)
    }
}

pub trait Kind {
    type Value;
    type Array: Array + 'static;
    type Builder: ArrayBuilder;
    fn data_type() -> DataType;
    fn builder(capacity: usize) -> Self::Builder;
    fn append(builder: &mut Self::Builder, value: &Self::Value);
    fn append_null(builder: &mut Self::Builder);
    /// `None` when what the file says is no such value.
    fn get(array: &Self::Array, row: usize) -> Option<Self::Value>;
    fn put(value: &Self::Value, out: &mut Vec<u8>);
    /// `None` when the bytes end early or are no such value.
    fn take(bytes: &mut &[u8]) -> Option<Self::Value>;
}

pub fn take_bytes<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

macro_rules! plain {
    ($name:ident, $value:ty, $array:ty, $builder:ty, $data_type:expr) => {
        pub struct $name;
        impl Kind for $name {
            type Value = $value;
            type Array = $array;
            type Builder = $builder;
            fn data_type() -> DataType {
                $data_type
            }
            fn builder(capacity: usize) -> $builder {
                <$builder>::with_capacity(capacity)
            }
            fn append(builder: &mut $builder, value: &$value) {
                builder.append_value(*value);
            }
            fn append_null(builder: &mut $builder) {
                builder.append_null();
            }
            fn get(array: &$array, row: usize) -> Option<$value> {
                Some(array.value(row))
            }
            fn put(value: &$value, out: &mut Vec<u8>) {
                out.extend_from_slice(&value.to_le_bytes());
            }
            fn take(bytes: &mut &[u8]) -> Option<$value> {
                take_bytes(bytes).map(<$value>::from_le_bytes)
            }
        }
    };
}

plain!(Int, i32, Int32Array, Int32Builder, DataType::Int32);
plain!(Big, i64, Int64Array, Int64Builder, DataType::Int64);

pub struct Flag;
impl Kind for Flag {
    type Value = bool;
    type Array = BooleanArray;
    type Builder = BooleanBuilder;
    fn data_type() -> DataType {
        DataType::Boolean
    }
    fn builder(capacity: usize) -> BooleanBuilder {
        BooleanBuilder::with_capacity(capacity)
    }
    fn append(builder: &mut BooleanBuilder, value: &bool) {
        builder.append_value(*value);
    }
    fn append_null(builder: &mut BooleanBuilder) {
        builder.append_null();
    }
    fn get(array: &BooleanArray, row: usize) -> Option<bool> {
        Some(array.value(row))
    }
    fn put(value: &bool, out: &mut Vec<u8>) {
        out.push(u8::from(*value));
    }
    fn take(bytes: &mut &[u8]) -> Option<bool> {
        take_bytes::<1>(bytes).map(|[byte]| byte != 0)
    }
}

/// Pico-USD: the ledger's bigint is the decimal's digits.
pub struct Pico;
const PRECISION: u8 = 18;
const SCALE: i8 = 12;
impl Kind for Pico {
    type Value = i64;
    type Array = Decimal128Array;
    type Builder = Decimal128Builder;
    fn data_type() -> DataType {
        DataType::Decimal128(PRECISION, SCALE)
    }
    fn builder(capacity: usize) -> Decimal128Builder {
        Decimal128Builder::with_capacity(capacity).with_data_type(Self::data_type())
    }
    fn append(builder: &mut Decimal128Builder, value: &i64) {
        builder.append_value(i128::from(*value));
    }
    fn append_null(builder: &mut Decimal128Builder) {
        builder.append_null();
    }
    fn get(array: &Decimal128Array, row: usize) -> Option<i64> {
        i64::try_from(array.value(row)).ok()
    }
    fn put(value: &i64, out: &mut Vec<u8>) {
        Big::put(value, out);
    }
    fn take(bytes: &mut &[u8]) -> Option<i64> {
        Big::take(bytes)
    }
}

pub struct Time;
impl Kind for Time {
    type Value = DateTime<Utc>;
    type Array = TimestampMicrosecondArray;
    type Builder = TimestampMicrosecondBuilder;
    fn data_type() -> DataType {
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
    }
    fn builder(capacity: usize) -> TimestampMicrosecondBuilder {
        TimestampMicrosecondBuilder::with_capacity(capacity).with_timezone("UTC")
    }
    fn append(builder: &mut TimestampMicrosecondBuilder, value: &DateTime<Utc>) {
        builder.append_value(value.timestamp_micros());
    }
    fn append_null(builder: &mut TimestampMicrosecondBuilder) {
        builder.append_null();
    }
    fn get(array: &TimestampMicrosecondArray, row: usize) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_micros(array.value(row))
    }
    fn put(value: &DateTime<Utc>, out: &mut Vec<u8>) {
        Big::put(&value.timestamp_micros(), out);
    }
    fn take(bytes: &mut &[u8]) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_micros(Big::take(bytes)?)
    }
}
