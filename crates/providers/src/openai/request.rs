//! The caller's body on its way out: the model's value replaced in place, at most one member added, every other byte as the
//! caller wrote it.

use std::ops::Range;

use bytes::Bytes;
use domain::{Endpoint, ErrorClass};
use serde_json::value::RawValue;

use super::members::{Members, count_inputs};
use crate::{
    call::Call,
    error::CallError,
    target::{Extra, Target},
};

pub(super) struct Outgoing {
    pub body: Bytes,
    /// What Tollway added, if the caller had not said it already.
    pub added: Option<Extra>,
    /// How many embeddings are asked for, when the body tells.
    pub inputs: Option<usize>,
}

/// `call`'s body for `target`, with `extra` added unless the caller has a say of his own.
pub(super) fn outgoing(call: &Call<'_>, target: &Target, extra: Option<Extra>) -> Result<Outgoing, CallError> {
    let refuse = |what: String| CallError::new(ErrorClass::InvalidRequest, format!("{what}; it was not sent"));
    let body = call.body;
    // The place of a fault only: serde's words may quote the body.
    let members: Members<'_> = serde_json::from_str(body)
        .map_err(|e| refuse(format!("the body is no JSON object, see line {} column {}", e.line(), e.column())))?;
    if members.models.is_empty() {
        return Err(refuse("the body has no model".into()));
    }
    // Which of several equal keys counts is the provider's choice, so all of them get the model.
    let mut edits: Vec<(Range<usize>, &str)> =
        members.models.iter().map(|raw| (place(body, raw.get()), target.model_json())).collect();
    let addition = match extra {
        Some(Extra::Base64) => ask_base64(body, &members),
        Some(Extra::StreamUsage) => ask_usage(body, &members),
        None => None,
    };
    let added = extra.filter(|_| addition.is_some());
    edits.extend(addition);
    edits.sort_by_key(|(at, _)| at.start);
    let inputs = match call.endpoint {
        Endpoint::Embeddings => members.input.and_then(count_inputs),
        Endpoint::ChatCompletions => None,
    };
    Ok(Outgoing { body: splice(body, &edits), added, inputs })
}

/// Whether the caller asked for embeddings in base64; OpenAI's SDKs do, raw HTTP gets floats.
pub fn wants_base64(body: &str) -> bool {
    let members = serde_json::from_str::<Members<'_>>(body);
    members.is_ok_and(|members| members.encoding_format.is_some_and(|raw| raw.get() == "\"base64\""))
}

type Edit = (Range<usize>, &'static str);

/// The start of an object's first member. Objects edited here have one, or `}` follows.
fn first_member(object: &str) -> Range<usize> {
    let at = object.find('{').map_or(0, |at| at + 1);
    at..at
}

fn ask_base64(body: &str, members: &Members<'_>) -> Option<Edit> {
    match members.encoding_format {
        None => Some((first_member(body), "\"encoding_format\":\"base64\",")),
        Some(raw) if raw.get() == "null" => Some((place(body, raw.get()), "\"base64\"")),
        Some(_) => None,
    }
}

fn ask_usage(body: &str, members: &Members<'_>) -> Option<Edit> {
    let Some(options) = members.stream_options.map(RawValue::get) else {
        return Some((first_member(body), "\"stream_options\":{\"include_usage\":true},"));
    };
    if options == "null" {
        return Some((place(body, options), "{\"include_usage\":true}"));
    }
    // Anything but an object is the caller's mistake, for the provider to name.
    let inner: Members<'_> = serde_json::from_str(options).ok()?;
    let inside = place(body, options).start + 1;
    match inner.include_usage {
        Some(raw) if raw.get() == "true" => None,
        Some(raw) => Some((place(body, raw.get()), "true")),
        None if inner.count == 0 => Some((inside..inside, "\"include_usage\":true")),
        None => Some((inside..inside, "\"include_usage\":true,")),
    }
}

/// Where `part`, a slice of `body`, lies in it.
fn place(body: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - body.as_ptr() as usize;
    start..start + part.len()
}

/// `body` with each range replaced; the ranges are in order and apart.
fn splice(body: &str, edits: &[(Range<usize>, &str)]) -> Bytes {
    let more: usize = edits.iter().map(|(_, text)| text.len()).sum();
    let mut out = Vec::with_capacity(body.len() + more);
    let mut copied = 0;
    for (at, text) in edits {
        out.extend_from_slice(&body.as_bytes()[copied..at.start]);
        out.extend_from_slice(text.as_bytes());
        copied = at.end;
    }
    out.extend_from_slice(&body.as_bytes()[copied..]);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::tests::deployment;
    use proptest::prelude::*;

    fn sent(endpoint: Endpoint, body: &str, extra: Option<Extra>) -> Result<Outgoing, CallError> {
        let deployment = domain::Deployment { model: "m\"2".into(), ..deployment("http://x") };
        let target = Target::resolve("d", &deployment).unwrap();
        outgoing(&Call { endpoint, body, attempt_id: domain::AttemptId::nil() }, &target, extra)
    }

    fn check(extra: Option<Extra>, body: &str, expected: &str) {
        let got = sent(Endpoint::ChatCompletions, body, extra).unwrap();
        assert_eq!(got.body, expected.as_bytes(), "{}", String::from_utf8_lossy(&got.body));
    }

    #[test]
    fn only_the_models_value_changes() {
        let same = |body: &str, expected: &str| check(None, body, expected);
        same(r#"{"model":"r"}"#, r#"{"model":"m\"2"}"#);
        same(
            " { \"a\" : {\"model\":1},\n\"model\" : \"r\" ,\"é\":[1.0e5, null] }\n",
            " { \"a\" : {\"model\":1},\n\"model\" : \"m\\\"2\" ,\"é\":[1.0e5, null] }\n",
        );
        same(r#"{"mod\u0065l":"r","x":"\"model\":\"r\""}"#, r#"{"mod\u0065l":"m\"2","x":"\"model\":\"r\""}"#);
        same(r#"{"model":"r","b":1,"model":null}"#, r#"{"model":"m\"2","b":1,"model":"m\"2"}"#);
    }

    #[test]
    fn usage_is_asked_for_where_the_caller_did_not() {
        let asked = |body: &str, expected: &str| check(Some(Extra::StreamUsage), body, expected);
        asked(r#"{"model":"r"}"#, r#"{"stream_options":{"include_usage":true},"model":"m\"2"}"#);
        asked(r#"{"model":"r","stream_options":null}"#, r#"{"model":"m\"2","stream_options":{"include_usage":true}}"#);
        asked(r#"{"stream_options":{ },"model":"r"}"#, r#"{"stream_options":{"include_usage":true },"model":"m\"2"}"#);
        asked(
            r#"{"stream_options":{"x":1},"model":"r"}"#,
            r#"{"stream_options":{"include_usage":true,"x":1},"model":"m\"2"}"#,
        );
        asked(
            r#"{"stream_options":{"include_usage" : false},"model":"r"}"#,
            r#"{"stream_options":{"include_usage" : true},"model":"m\"2"}"#,
        );
        for own in [r#"{"include_usage":true}"#, "7"] {
            let body = format!(r#"{{"model":"r","stream_options":{own}}}"#);
            let got = sent(Endpoint::ChatCompletions, &body, Some(Extra::StreamUsage)).unwrap();
            assert_eq!((got.added, &got.body[..]), (None, body.replace("\"r\"", r#""m\"2""#).as_bytes()));
        }
    }

    #[test]
    fn base64_is_asked_for_where_the_caller_named_no_format() {
        let asked = |body: &str, expected: &str| check(Some(Extra::Base64), body, expected);
        asked(r#"{"model":"r"}"#, r#"{"encoding_format":"base64","model":"m\"2"}"#);
        asked(r#"{"model":"r","encoding_format":null}"#, r#"{"model":"m\"2","encoding_format":"base64"}"#);
        asked(r#"{"model":"r","encoding_format":"float"}"#, r#"{"model":"m\"2","encoding_format":"float"}"#);
        assert!(wants_base64(r#"{"encoding_format":"base64"}"#));
        assert!(!wants_base64(r#"{"encoding_format":"float","x":{"encoding_format":"base64"}}"#));
        assert!(!wants_base64("["));
    }

    #[test]
    fn inputs_are_counted() {
        let count = |input: &str| {
            let body = format!(r#"{{"model":"r","input":{input}}}"#);
            sent(Endpoint::Embeddings, &body, None).unwrap().inputs
        };
        assert_eq!(count(r#""text""#), Some(1));
        assert_eq!(count(r#"["a", "b,]", "c"]"#), Some(3));
        assert_eq!(count("[ 1, 2, 3]"), Some(1));
        assert_eq!(count("[[1,2],[3]]"), Some(2));
        assert_eq!((count("[]"), count("{}"), count("null")), (None, None, None));
    }

    #[test]
    fn what_cannot_be_sent_is_refused_without_quoting_it() {
        for body in ["", "[]", "{\"secret\"", "{\"prompt\":\"secret\"}", "{\"model\":\"r\"} secret"] {
            let error = sent(Endpoint::ChatCompletions, body, None).map(|_| ()).unwrap_err();
            assert_eq!(error.class, ErrorClass::InvalidRequest);
            assert!(error.message.ends_with("it was not sent") && !error.message.contains("secret"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_object_keeps_all_but_its_model(
            before in proptest::collection::btree_map("[a-z]{1,6}", ".{0,12}", 0..4),
            after in proptest::collection::btree_map("[A-Z]{1,6}", any::<i32>(), 0..4),
            usage in any::<bool>(),
        ) {
            let mut object = serde_json::Map::new();
            object.extend(before.into_iter().map(|(k, v)| (k, v.into())));
            object.insert("model".into(), "route".into());
            object.extend(after.into_iter().map(|(k, v)| (k, v.into())));
            let body = serde_json::Value::Object(object.clone()).to_string();
            let got = sent(Endpoint::ChatCompletions, &body, usage.then_some(Extra::StreamUsage)).unwrap();
            let mut got: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&got.body).unwrap();
            prop_assert_eq!(got.remove("stream_options").is_some(), usage);
            object.insert("model".into(), "m\"2".into());
            prop_assert_eq!(got, object);
        }
    }
}
