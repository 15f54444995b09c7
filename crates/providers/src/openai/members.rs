//! What the caller's body says about things that concern Tollway, in one pass and without copying.

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// The members of an object that matter here, as they are written; of equal keys the last, as parsers have it.
#[derive(Default)]
pub(super) struct Members<'a> {
    pub models: Vec<&'a RawValue>,
    pub input: Option<&'a RawValue>,
    pub encoding_format: Option<&'a RawValue>,
    pub stream_options: Option<&'a RawValue>,
    /// A member of `stream_options`.
    pub include_usage: Option<&'a RawValue>,
    pub count: usize,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Model,
    Input,
    EncodingFormat,
    StreamOptions,
    IncludeUsage,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Members::default();
                while let Some(key) = map.next_key()? {
                    members.count += 1;
                    match key {
                        Key::Model => members.models.push(map.next_value()?),
                        Key::Input => members.input = Some(map.next_value()?),
                        Key::EncodingFormat => members.encoding_format = Some(map.next_value()?),
                        Key::StreamOptions => members.stream_options = Some(map.next_value()?),
                        Key::IncludeUsage => members.include_usage = Some(map.next_value()?),
                        Key::Other => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// One for a text or an array of tokens, else as many as the array has entries. `None` when it is nothing of the kind.
pub(super) fn count_inputs(input: &RawValue) -> Option<usize> {
    let json = input.get();
    if json.starts_with('"') {
        return Some(1);
    }
    match json.strip_prefix('[')?.trim_start().bytes().next()? {
        b'-' | b'0'..=b'9' => Some(1),
        b']' => None,
        _ => serde_json::from_str::<Entries>(json).ok().map(|entries| entries.0),
    }
}

struct Entries(usize);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Array;
        impl<'de> Visitor<'de> for Array {
            type Value = Entries;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Entries, A::Error> {
                let mut count = 0;
                while array.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Entries(count))
            }
        }
        deserializer.deserialize_seq(Array)
    }
}
