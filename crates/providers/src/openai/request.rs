//! The caller's body on its way out: the model's value replaced in place, at most one member added or left out, every other byte as
//! the caller wrote it.

use bytes::Bytes;
use domain::{Endpoint, ErrorClass};
use wire::{BadCall, Layout};

use super::embeddings::Expected;
use crate::{
    call::Call,
    error::CallError,
    target::{Extra, Target},
};

pub(super) struct Outgoing {
    pub body: Bytes,
    /// The optional member in the body, added by Tollway or by the caller, that the call can be repeated without.
    pub added: Option<Extra>,
    /// Of embeddings, as far as the body tells.
    pub expected: Expected,
}

/// `call`'s body for `target`, with `extra` added unless the caller has set that member. Tollway renders embeddings in the caller's
/// format itself, so without `extra` a caller's own `encoding_format: "base64"` is left out, too.
pub(super) fn outgoing(call: &Call<'_>, target: &Target, extra: Option<Extra>) -> Result<Outgoing, CallError> {
    let refuse = |what: String| CallError::new(ErrorClass::InvalidRequest, format!("{what}; it was not sent"));
    let layout = Layout::scan(call.endpoint, call.body).map_err(|error| refuse(flaw(&error)))?;
    if !layout.has_model() {
        return Err(refuse("the body has no model".into()));
    }
    let says_base64 = call.endpoint == Endpoint::Embeddings && layout.wants_base64();
    let edit = match extra {
        Some(Extra::Base64) => layout.ask_base64(),
        Some(Extra::StreamUsage) => layout.ask_usage(),
        None if says_base64 => layout.leave_out_base64(call.body),
        None => None,
    };
    let added = extra.filter(|_| edit.is_some() || says_base64);
    let edits = layout.set_model(target.model_json()).chain(edit).collect();
    let expected = match call.endpoint {
        Endpoint::Embeddings => {
            Expected { inputs: layout.inputs, dimensions: layout.dimensions.and_then(|width| width.try_into().ok()) }
        }
        Endpoint::ChatCompletions => Expected::default(),
    };
    Ok(Outgoing { body: wire::splice(call.body, edits).into(), added, expected })
}

/// The place of a fault only: nothing of the body is quoted.
fn flaw(error: &BadCall) -> String {
    match error {
        BadCall::Json(flaw) => format!("the body is no JSON object: {flaw}"),
        _ => "the body is no JSON object".to_owned(),
    }
}

/// Whether the caller asked for embeddings in base64; OpenAI's SDKs do, raw HTTP gets floats.
pub fn wants_base64(body: &str) -> bool {
    Layout::scan(Endpoint::Embeddings, body).is_ok_and(|layout| layout.wants_base64())
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
    fn base64_is_left_out_for_who_refuses_it_whoever_asked() {
        let without = |body: &str, expected: &str| {
            let got = sent(Endpoint::Embeddings, body, None).unwrap();
            assert_eq!(
                (got.added, &got.body[..]),
                (None, expected.as_bytes()),
                "{}",
                String::from_utf8_lossy(&got.body)
            );
            let with = sent(Endpoint::Embeddings, body, Some(Extra::Base64)).unwrap();
            assert_eq!(with.added, Some(Extra::Base64), "{body}");
        };
        without(r#"{"model":"r","encoding_format":"base64"}"#, r#"{"model":"m\"2"}"#);
        without(r#"{ "encoding_format" : "base64" , "model":"r"}"#, r#"{  "model":"m\"2"}"#);
        without(r#"{"model":"r" , "encoding_format":"base64", "x":1}"#, r#"{"model":"m\"2" ,  "x":1}"#);
        let floats = r#"{"model":"r","encoding_format":"float"}"#;
        let got = sent(Endpoint::Embeddings, floats, None).unwrap();
        assert_eq!(&got.body[..], br#"{"model":"m\"2","encoding_format":"float"}"#);
        assert_eq!(sent(Endpoint::Embeddings, floats, Some(Extra::Base64)).unwrap().added, None);
    }

    #[test]
    fn inputs_are_counted() {
        let count = |input: &str| {
            let body = format!(r#"{{"model":"r","input":{input}}}"#);
            sent(Endpoint::Embeddings, &body, None).unwrap().expected.inputs
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
