//! Things found in what a provider sends: names, bounded, and objects in JSON that is not whole.

use memchr::memmem;
use serde_json::value::RawValue;

/// The longest name that a header and a ledger row take, in characters.
const LONGEST_NAME: usize = 128;

/// A name that a provider gives, such as a model's or a reason's, without control characters.
pub(crate) fn name(text: Option<&str>) -> Option<String> {
    Some(text?.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect())
}

/// The values of members called `key`, the last first, in JSON that is too large or not whole.
pub(crate) fn objects_named<'a>(json: &'a [u8], key: &str) -> impl Iterator<Item = &'a RawValue> {
    let key = format!("\"{key}\"").into_bytes();
    let length = key.len();
    let places: Vec<usize> =
        memmem::rfind_iter(json, &key).filter(|at| *at == 0 || json[at - 1] != b'\\').take(8).collect();
    places.into_iter().filter_map(move |at| {
        let value = json[at + length..].trim_ascii_start().strip_prefix(b":")?;
        serde_json::Deserializer::from_slice(value).into_iter::<&RawValue>().next()?.ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_fit_into_a_header() {
        assert_eq!(name(Some(&"m".repeat(100_000))).map(|name| name.len()), Some(LONGEST_NAME));
        assert_eq!(name(Some("m-\0\n1")).as_deref(), Some("m-1"));
        assert_eq!(name(None), None);
    }

    #[test]
    fn the_last_object_is_found_first_and_texts_are_no_keys() {
        let found =
            |json: &str| objects_named(json.as_bytes(), "usage").map(|raw| raw.get().to_owned()).collect::<Vec<_>>();
        assert_eq!(found(r#"…"usage":{"a":1}}, "usage" : {"a":2},"x"#), [r#"{"a":2}"#, r#"{"a":1}"#]);
        assert_eq!(found(r#"{"usage":{"a":1},"text":"\"usage\":{"#), [r#"{"a":1}"#]);
        assert!(found(r#"{"usage":{"a":"#).is_empty());
    }
}
