//! Kinds of value that are text in the file.

use arrow_array::{StringArray, builder::StringBuilder};
use arrow_schema::DataType;
use domain::JobId;
use uuid::Uuid;

use super::kind::{Big, Kind, take_bytes};

macro_rules! text {
    ($name:ident, $value:ty, $show:expr, $parse:expr, $put:expr, $take:expr) => {
        pub struct $name;
        impl Kind for $name {
            type Value = $value;
            type Array = StringArray;
            type Builder = StringBuilder;
            fn data_type() -> DataType {
                DataType::Utf8
            }
            fn builder(capacity: usize) -> StringBuilder {
                StringBuilder::with_capacity(capacity, capacity * 24)
            }
            fn append(builder: &mut StringBuilder, value: &$value) {
                builder.append_value($show(value));
            }
            fn append_null(builder: &mut StringBuilder) {
                builder.append_null();
            }
            fn get(array: &StringArray, row: usize) -> Option<$value> {
                $parse(array.value(row))
            }
            fn put(value: &$value, out: &mut Vec<u8>) {
                $put(value, out)
            }
            fn take(bytes: &mut &[u8]) -> Option<$value> {
                $take(bytes)
            }
        }
    };
}

fn put_text(value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    out.extend_from_slice(value.as_bytes());
}

fn take_text(bytes: &mut &[u8]) -> Option<String> {
    let length = u32::from_le_bytes(take_bytes(bytes)?) as usize;
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    String::from_utf8(head.to_vec()).ok()
}

text!(
    Text,
    String,
    String::as_str,
    |text: &str| Some(text.to_owned()),
    |value: &String, out: &mut Vec<u8>| put_text(value, out),
    take_text
);
text!(
    Id,
    Uuid,
    |id: &Uuid| id.hyphenated().to_string(),
    |text: &str| Uuid::parse_str(text).ok(),
    |id: &Uuid, out: &mut Vec<u8>| out.extend_from_slice(id.as_bytes()),
    |bytes: &mut &[u8]| take_bytes(bytes).map(Uuid::from_bytes)
);
// As the API shows it, so that files and answers can be joined.
text!(
    Job,
    i64,
    |id: &i64| JobId(*id).to_string(),
    |text: &str| text.parse::<JobId>().ok().map(|id| id.0),
    |id: &i64, out: &mut Vec<u8>| Big::put(id, out),
    Big::take
);
