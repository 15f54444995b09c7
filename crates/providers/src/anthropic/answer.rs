//! The message as a chat completion.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::{ErrorClass, Usage};
use serde_json::{Value, json, value::RawValue};

use super::usage;
use crate::{
    client::{Unfit, error_inside, name},
    error::CallError,
    target::Target,
};

#[derive(Debug)]
pub(super) struct Read {
    /// In OpenAI's form.
    pub body: Bytes,
    pub usage: Option<Usage>,
    pub output_bytes: u64,
    pub model: Option<String>,
    pub service_tier: Option<String>,
    pub finish_reason: &'static str,
}

/// Reads a whole answer, and proves that it is one: it says why it ended, and each of its blocks can be read.
pub(super) fn read(body: &Bytes, target: &Target, now: DateTime<Utc>) -> Result<Read, CallError> {
    let unfit = |unfit: Unfit| unfit.into_error(target);
    if body.trim_ascii().is_empty() {
        return Err(unfit(Unfit::CUT));
    }
    let message: Value =
        serde_json::from_slice(body).map_err(|e| unfit(Unfit::json(&e, "is not the JSON of a message")))?;
    if let Some(error) = said(&message, body, target) {
        return Err(error);
    }
    let usage = usage::read(&message["usage"]);
    let garbage = |what: &'static str| unfit(Unfit::garbage(what).with_usage(usage));
    let blocks = message["content"].as_array().ok_or_else(|| garbage("has no content"))?;
    let reason = message["stop_reason"].as_str().filter(|reason| !reason.is_empty());
    let finish_reason = finish_reason(reason.ok_or_else(|| garbage("has no stop reason"))?);
    let (answer, output_bytes) = answer(blocks).ok_or_else(|| garbage("has a block that is not whole"))?;
    let model = name(message["model"].as_str());
    let mut completion = json!({
        "id": message["id"],
        "object": "chat.completion",
        "created": now.timestamp(),
        "model": model,
        "choices": [{"index": 0, "message": answer, "logprobs": null, "finish_reason": finish_reason}],
    });
    if let Some(usage) = &usage {
        completion["usage"] = usage::in_openai_form(usage);
    }
    Ok(Read {
        body: completion.to_string().into(),
        usage,
        output_bytes,
        model,
        service_tier: service_tier(&message),
        finish_reason,
    })
}

/// The blocks as one message of the assistant, and how many bytes the model wrote.
fn answer(blocks: &[Value]) -> Option<(Value, u64)> {
    let (mut text, mut thinking, mut calls, mut bytes) = (String::new(), String::new(), Vec::new(), 0);
    for block in blocks {
        match block["type"].as_str()? {
            "text" => text.push_str(block["text"].as_str()?),
            "thinking" => thinking.push_str(block["thinking"].as_str()?),
            "tool_use" => {
                let (name, arguments) =
                    (block["name"].as_str()?, block["input"].as_object().map(|_| block["input"].to_string())?);
                bytes += name.len() + arguments.len();
                let function = json!({"name": name, "arguments": arguments});
                calls.push(json!({"id": block["id"].as_str()?, "type": "function", "function": function}));
            }
            // Encrypted thinking, and blocks of server tools, which no translated request asks for.
            _ => {}
        }
    }
    bytes += text.len() + thinking.len();
    let content = if text.is_empty() && !calls.is_empty() { Value::Null } else { text.into() };
    let mut message = json!({"role": "assistant", "content": content, "refusal": null});
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    if !thinking.is_empty() {
        message["reasoning_content"] = thinking.into();
    }
    Some((message, bytes as u64))
}

pub(super) fn finish_reason(stop_reason: &str) -> &'static str {
    match stop_reason {
        "max_tokens" | "model_context_window_exceeded" => "length",
        "tool_use" => "tool_calls",
        "refusal" => "content_filter",
        // end_turn, stop_sequence, pause_turn, and reasons that are not known yet.
        _ => "stop",
    }
}

pub(super) fn service_tier(message: &Value) -> Option<String> {
    name(message.pointer("/usage/service_tier").and_then(Value::as_str))
}

/// The error that an answer or an event is; `None`: it is none. `raw` is its JSON.
pub(super) fn said(value: &Value, raw: &Bytes, target: &Target) -> Option<CallError> {
    if value["type"] != "error" && value.get("error").is_none_or(Value::is_null) {
        return None;
    }
    let json: &RawValue = serde_json::from_slice(raw).ok()?;
    Some(error_inside(json, raw.clone(), target))
}

/// The error for a whole JSON answer in place of a stream: the provider's own, or `Garbage` with the usage that was paid for.
pub(super) fn no_stream(body: &Bytes, target: &Target) -> CallError {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    said(&value, body, target)
        .unwrap_or_else(|| Unfit::garbage("is no event stream").with_usage(usage::find(body)).into_error(target))
}

/// The error for an event that is called one and cannot be read.
pub(super) fn broke_off(target: &Target) -> CallError {
    Unfit::new(ErrorClass::ServerError, "broke off with an error event").into_error(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::tests::deployment;

    fn target() -> Target {
        Target::resolve("d", &deployment("http://x")).unwrap()
    }

    fn class_of(body: &str) -> ErrorClass {
        read(&Bytes::copy_from_slice(body.as_bytes()), &target(), DateTime::UNIX_EPOCH).unwrap_err().class
    }

    fn message(content: Value, stop_reason: Value) -> Value {
        json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": content, "stop_reason": stop_reason,
            "stop_sequence": null, "usage": {"input_tokens": 3, "output_tokens": 4, "service_tier": "standard"},
        })
    }

    fn completion(content: Value, stop_reason: &str) -> Value {
        let body = message(content, stop_reason.into()).to_string().into();
        let read = read(&body, &target(), DateTime::UNIX_EPOCH).unwrap();
        let metered = json!({"bytes": read.output_bytes, "model": read.model, "tier": read.service_tier, "reason": read.finish_reason});
        json!({"body": serde_json::from_slice::<Value>(&read.body).unwrap(), "metered": metered})
    }

    #[test]
    fn messages_are_completions() {
        let text = |text: &str| json!({"type": "text", "text": text});
        let thinking = json!({"type": "thinking", "thinking": "hm", "signature": "s"});
        insta::assert_json_snapshot!("text", completion(json!([thinking, text("he"), text("y")]), "end_turn"));
        let used = |id: &str, input: Value| json!({"type": "tool_use", "id": id, "name": "f", "input": input});
        let calls = json!([text("I ask."), used("toolu_1", json!({"n": 1})), used("toolu_2", json!({}))]);
        insta::assert_json_snapshot!("calls", completion(calls, "tool_use"));
        insta::assert_json_snapshot!("refusal", completion(json!([]), "refusal"));
    }

    #[test]
    fn a_call_without_words_has_no_content() {
        let body = completion(json!([{"type": "tool_use", "id": "t", "name": "f", "input": {}}]), "tool_use");
        assert_eq!(body.pointer("/body/choices/0/message/content"), Some(&Value::Null));
    }

    #[test]
    fn every_stop_reason_has_its_finish_reason() {
        for (theirs, ours) in [
            ("end_turn", "stop"),
            ("stop_sequence", "stop"),
            ("pause_turn", "stop"),
            ("max_tokens", "length"),
            ("model_context_window_exceeded", "length"),
            ("tool_use", "tool_calls"),
            ("refusal", "content_filter"),
            ("of_tomorrow", "stop"),
        ] {
            assert_eq!(finish_reason(theirs), ours);
        }
    }

    #[test]
    fn an_answer_that_is_not_whole_is_refused_and_its_usage_kept() {
        let class = |content: Value, reason: Value| class_of(&message(content, reason).to_string());
        assert_eq!(class(json!([]), Value::Null), ErrorClass::Garbage);
        assert_eq!(class(json!([{"type": "text"}]), json!("end_turn")), ErrorClass::Garbage);
        assert_eq!(
            class(json!([{"type": "tool_use", "id": "t", "name": "f", "input": 7}]), json!("tool_use")),
            ErrorClass::Garbage
        );
        assert_eq!(class(json!("text"), json!("end_turn")), ErrorClass::Garbage);
        assert_eq!(class_of(r#"{"type":"message","con"#), ErrorClass::Cut);
        assert_eq!(class_of(""), ErrorClass::Cut);
        assert_eq!(class_of("[]"), ErrorClass::Garbage);
        let body = message(json!([]), Value::Null).to_string().into();
        assert_eq!(
            read(&body, &target(), DateTime::UNIX_EPOCH).unwrap_err().usage.and_then(|usage| usage.total()),
            Some(7)
        );
    }

    #[test]
    fn an_error_under_200_has_its_class() {
        assert_eq!(class_of(r#"{"type":"error","error":{"type":"overloaded_error"}}"#), ErrorClass::Overloaded);
        assert_eq!(
            class_of(r#"{"type":"error","error":{"type":"rate_limit_error","message":"x"}}"#),
            ErrorClass::Throttled
        );
        assert_eq!(class_of(r#"{"error":{"type":"authentication_error"}}"#), ErrorClass::Credential);
        assert_eq!(class_of(r#"{"type":"error","error":{"type":"api_error"}}"#), ErrorClass::ServerError);
    }
}
