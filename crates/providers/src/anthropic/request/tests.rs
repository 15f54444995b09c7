use domain::Deployment;
use proptest::prelude::*;

use super::*;
use crate::target::tests::deployment;

fn target(max_output_tokens: Option<u64>) -> Target {
    let deployment = Deployment { model: "claude-of-tomorrow".into(), max_output_tokens, ..deployment("http://x") };
    Target::resolve("d", &deployment).unwrap()
}

fn sent(body: &Value) -> Result<Value, CallError> {
    let outgoing = outgoing(&body.to_string(), &target(Some(4_096)))?;
    Ok(serde_json::from_slice(&outgoing.body).unwrap())
}

fn with(more: Value) -> Value {
    let mut body = json!({"model": "route", "messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The field that a refusal names, for programs.
fn param(error: &CallError) -> String {
    let body: Value = serde_json::from_slice(error.body.as_ref().unwrap()).unwrap();
    assert_eq!(body["error"]["message"], error.message);
    body["error"]["param"].as_str().unwrap().to_owned()
}

#[test]
fn a_plain_request_is_translated() {
    insta::assert_json_snapshot!("plain", sent(&with(json!({}))).unwrap());
}

#[test]
fn every_field_with_a_counterpart_is_translated() {
    let tool = json!({"type": "function", "function": {
        "name": "weather", "description": "Tells the weather.", "strict": true,
        "parameters": {"type": "object", "properties": {"where": {"type": "string"}, "at": {"type": "string"}}, "required": ["where"]},
    }});
    let call = json!({"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"where\":\"Bern\"}"}});
    let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "high"}});
    let schema = json!({"type": "object", "properties": {"z": {"type": "integer"}, "a": {"type": "string"}}});
    let full = with(json!({
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Is it warm here?"}, image]},
            {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "17 degrees"},
        ],
        "max_completion_tokens": 900, "temperature": 1.7, "top_p": 0.9, "stop": ["END", "STOP"], "tools": [tool],
        "tool_choice": "auto", "parallel_tool_calls": false, "user": "u1", "service_tier": "default", "stream": true,
        "stream_options": {"include_usage": true},
        "reasoning_effort": "low",
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": schema}},
        "n": 1, "presence_penalty": 0.0, "frequency_penalty": 0, "logprobs": false, "logit_bias": {}, "store": false, "seed": null,
        "modalities": ["text"], "metadata": {"team": "search"}, "prompt_cache_key": "k",
    }));
    insta::assert_json_snapshot!("full", sent(&full).unwrap());
}

#[test]
fn the_maximum_is_the_requests_else_the_models() {
    let most = |more: Value| sent(&with(more)).unwrap()["max_tokens"].clone();
    assert_eq!(most(json!({"max_completion_tokens": 9, "max_tokens": 7})), 9);
    assert_eq!(most(json!({"max_tokens": 7, "max_completion_tokens": null})), 7);
    assert_eq!(most(json!({})), 4_096);
    let error = outgoing(&with(json!({})).to_string(), &target(None)).unwrap_err();
    assert_eq!(param(&error), "max_tokens");
    assert!(error.message.contains("claude-of-tomorrow") && error.message.contains("max_output_tokens"), "{error}");
}

#[test]
fn the_scale_of_temperature_ends_at_one() {
    let sent =
        |temperature: f64| sent(&with(json!({"temperature": temperature}))).map(|sent| sent["temperature"].clone());
    assert_eq!(sent(0.0).unwrap(), 0.0);
    assert_eq!(sent(0.7).unwrap(), 0.7);
    assert_eq!(sent(2.0).unwrap(), 1);
    assert!(sent(2.1).is_err() && sent(-0.1).is_err());
}

#[test]
fn usage_is_shown_to_the_caller_who_asked() {
    let asks = |more: Value| outgoing(&with(more).to_string(), &target(Some(9))).unwrap().wants_usage;
    assert!(asks(json!({"stream": true, "stream_options": {"include_usage": true, "include_obfuscation": true}})));
    assert!(!asks(json!({"stream": true})));
}

#[test]
fn a_field_without_a_counterpart_is_refused_by_name() {
    for (more, field) in [
        (json!({"n": 2}), "n"),
        (json!({"seed": 7}), "seed"),
        (json!({"logprobs": true}), "logprobs"),
        (json!({"logit_bias": {"50256": -100}}), "logit_bias"),
        (json!({"frequency_penalty": 0.1}), "frequency_penalty"),
        (json!({"store": true}), "store"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"max_completion_tokens": "9"}), "max_completion_tokens"),
        (json!({"stop": [" "]}), "stop"),
        (json!({"stop": [7]}), "stop"),
        (json!({"response_format": {"type": "json_object"}}), "response_format.type"),
        (json!({"response_format": {"type": "json_schema", "json_schema": {}}}), "response_format.json_schema.schema"),
        (json!({"reasoning_effort": "minimal"}), "reasoning_effort"),
        (json!({"service_tier": "flex"}), "service_tier"),
        (json!({"stream_options": {"x": 1}}), "stream_options.x"),
        (json!({"functions": []}), "functions"),
        (json!({"messages": [{"role": "user", "content": "x", "name": "ann"}]}), "messages[0].name"),
        (json!({"messages": []}), "messages"),
        (json!({"model": null}), "model"),
    ] {
        let error = sent(&with(more)).unwrap_err();
        assert_eq!((error.class, error.http_status, param(&error).as_str()), (ErrorClass::InvalidRequest, None, field));
        let start = format!("deployment d is of kind anthropic: {field} ");
        assert!(error.message.starts_with(&start) && error.message.ends_with("the call was not sent"), "{error}");
    }
}

#[test]
fn a_body_that_is_no_object_is_refused_without_quoting_it() {
    for body in ["", "[\"secret\"]", "{\"secret\"", "{\"model\":\"r\"} secret"] {
        let error = outgoing(body, &target(None)).unwrap_err();
        assert_eq!(error.class, ErrorClass::InvalidRequest);
        assert!(error.message.ends_with("not sent") && !error.message.contains("secret"), "{error}");
    }
}

proptest! {
    /// A field that nobody has heard of is never dropped.
    #[test]
    fn an_unknown_field_is_refused(field in "x_[a-z]{1,12}", value in any::<i32>()) {
        let mut body = with(json!({}));
        body[&field] = value.into();
        prop_assert_eq!(param(&sent(&body).unwrap_err()), field);
    }

    /// Schemas and arguments arrive with their members in the caller's order, for the model writes in the order that it reads.
    #[test]
    fn the_order_of_a_schema_is_kept(names in proptest::collection::hash_set("[a-z]{1,8}", 1..8)) {
        let names: Vec<String> = names.into_iter().collect();
        let properties: Map<String, Value> = names.iter().map(|name| (name.clone(), json!({"type": "string"}))).collect();
        let tool = json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": properties}}});
        let sent = sent(&with(json!({"tools": [tool]}))).unwrap();
        let arrived = sent["tools"][0]["input_schema"]["properties"].as_object().unwrap();
        prop_assert_eq!(arrived.keys().cloned().collect::<Vec<_>>(), names);
    }
}
