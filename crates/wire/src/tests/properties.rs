//! What holds for any body.

use domain::Endpoint::{ChatCompletions, Embeddings};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{Call, ImageRule, Layout, MAX_CHOICES, Output, RequestLine, splice};

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map(
                prop_oneof!["[a-z]{1,8}", Just("image_url".to_owned()), Just("url".to_owned()), Just("n".to_owned())],
                inner,
                0..5
            )
            .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A body that a provider takes.
fn sound() -> impl Strategy<Value = (Value, Output)> {
    let message = prop_oneof![
        ".{0,200}".prop_map(|text| json!({"role": "user", "content": text})),
        (0usize..4_000).prop_map(|n| {
            let url = format!("data:image/png;base64,{}", "A".repeat(n));
            json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]})
        }),
    ];
    let members = (
        proptest::collection::vec(message, 1..4),
        proptest::option::of(1i64..5_000),
        proptest::option::of(1i64..5_000),
        proptest::option::of(1i64..=MAX_CHOICES),
    );
    members.prop_map(|(messages, max, completion, n)| {
        let body =
            json!({"model": "m", "messages": messages, "max_tokens": max, "max_completion_tokens": completion, "n": n});
        (body, Output { max: max.max(completion), choices: n.unwrap_or(1) })
    })
}

/// What a provider bills as input that counts as this crate says: text by four bytes, an image by the rule.
fn billed(body: &Value, rule: ImageRule) -> i64 {
    let messages = body["messages"].as_array().unwrap();
    let of = |message: &Value| match &message["content"] {
        Value::String(text) => text.len() as i64 / 4,
        _ => rule.high,
    };
    messages.iter().map(of).sum()
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = RequestLine::parse(&bytes);
    }

    #[test]
    fn no_json_makes_the_parser_panic(body in value(), more in value()) {
        for endpoint in [ChatCompletions, Embeddings] {
            let text = json!({"model": "m", "messages": body, "input": body, "n": more, "stream_options": more}).to_string();
            let taken = Call::parse(endpoint, &text);
            if let Ok(call) = taken {
                prop_assert!(call.input.tokens(ImageRule::OTHERS) >= 0);
                prop_assert!(call.output.in_all(i64::MAX).is_none_or(|most| i32::try_from(most).is_ok()));
            }
            prop_assert!(Layout::scan(endpoint, &text).is_ok());
        }
    }

    #[test]
    fn no_conforming_provider_bills_more_than_is_estimated((body, said) in sound()) {
        let text = body.to_string();
        let call = Call::parse(ChatCompletions, &text).unwrap();
        for model in ["gpt-4o", "gpt-4o-mini", "other"] {
            let rule = ImageRule::of(model);
            prop_assert!(call.input.tokens(rule) >= billed(&body, rule));
        }
        prop_assert_eq!(call.output, said);
        if let Some(max) = said.max {
            prop_assert_eq!(call.output.in_all(1 << 20), Some(max * said.choices));
        }
    }

    #[test]
    fn one_token_an_integer_for_any_arrays(arrays in proptest::collection::vec(proptest::collection::vec(0u32.., 1..20), 1..8)) {
        let text = json!({"model": "m", "input": arrays}).to_string();
        let call = Call::parse(Embeddings, &text).unwrap();
        prop_assert_eq!(call.input.tokens, arrays.iter().map(Vec::len).sum::<usize>() as i64);
        prop_assert_eq!(call.layout.inputs, Some(arrays.len()));
    }

    #[test]
    fn another_model_changes_no_other_byte(
        before in proptest::collection::btree_map("[a-f]{1,6}", ".{0,12}", 0..4),
        after in proptest::collection::btree_map("[A-F]{1,6}", any::<i32>(), 0..4),
        model in ".{1,20}",
    ) {
        let mut object = serde_json::Map::new();
        object.extend(before.into_iter().map(|(k, v)| (k, v.into())));
        object.insert("model".into(), model.into());
        object.extend(after.into_iter().map(|(k, v)| (k, v.into())));
        let text = serde_json::to_string_pretty(&object).unwrap();
        let layout = Layout::scan(ChatCompletions, &text).unwrap();
        let sent = String::from_utf8(splice(&text, layout.set_model("\"other\"").collect())).unwrap();
        let place = layout.model.unwrap();
        prop_assert_eq!(&sent[..place.start], &text[..place.start]);
        prop_assert_eq!(&sent[place.start + "\"other\"".len()..], &text[place.end..]);
        object.insert("model".into(), "other".into());
        prop_assert_eq!(serde_json::from_str::<serde_json::Map<String, Value>>(&sent).unwrap(), object);
    }

    #[test]
    fn a_line_is_read_as_serde_reads_it(body in value()) {
        let line = json!({"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"model": "m", "input": "x", "more": body}});
        let text = line.to_string();
        let read = RequestLine::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(serde_json::from_str::<Value>(read.body).unwrap(), line["body"].clone());
    }
}
