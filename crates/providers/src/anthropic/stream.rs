//! The events of a message as chunks of a chat completion: a state machine, event by event.

use std::collections::HashMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::Usage;
use serde_json::{Value, json};

use super::{
    answer::{self, broke_off, finish_reason},
    usage,
};
use crate::{
    client::{Unfit, name, sse::Event},
    error::CallError,
    stream::{DONE, Metering, Step, StreamEnd},
    target::Target,
};

pub(super) struct Translator {
    wants_usage: bool,
    created: i64,
    id: Value,
    model: Option<String>,
    /// As the events have reported it so far.
    usage: Value,
    /// What the first event reports: all of the input, and next to no output.
    begun: Option<Usage>,
    /// The tool calls that have begun, by the index of their block. Anthropic's index counts every block, OpenAI's counts calls only.
    calls: HashMap<u64, Call>,
}

struct Call {
    index: usize,
    has_arguments: bool,
}

impl Translator {
    pub fn new(wants_usage: bool, now: DateTime<Utc>) -> Self {
        Self {
            wants_usage,
            created: now.timestamp(),
            id: Value::Null,
            model: None,
            usage: Value::Null,
            begun: None,
            calls: HashMap::new(),
        }
    }

    fn begin(&mut self, message: &Value, so_far: &mut StreamEnd) -> Step {
        self.id = message["id"].clone();
        self.model = name(message["model"].as_str());
        self.usage = message["usage"].clone();
        self.begun = usage::read(&self.usage);
        so_far.model.clone_from(&self.model);
        so_far.service_tier = answer::service_tier(message);
        so_far.choices = 1;
        self.say(json!({"role": "assistant", "content": "", "refusal": null}), None, false)
    }

    fn begin_block(&mut self, event: &Value, so_far: &mut StreamEnd) -> Step {
        let block = &event["content_block"];
        match block["type"].as_str() {
            Some("tool_use") => {
                let index = self.calls.len();
                let at = event["index"].as_u64().unwrap_or(index as u64);
                self.calls.insert(at, Call { index, has_arguments: false });
                so_far.output_bytes += block["name"].as_str().map_or(0, str::len) as u64;
                let function = json!({"name": block["name"], "arguments": ""});
                let call = json!({"index": index, "id": block["id"], "type": "function", "function": function});
                self.say(json!({"tool_calls": [call]}), None, true)
            }
            // A block may begin with words.
            Some("text") => self.words("content", &block["text"], so_far),
            Some("thinking") => self.words("reasoning_content", &block["thinking"], so_far),
            _ => Step::Hide,
        }
    }

    fn go_on(&mut self, event: &Value, so_far: &mut StreamEnd) -> Step {
        let delta = &event["delta"];
        match delta["type"].as_str() {
            Some("text_delta") => self.words("content", &delta["text"], so_far),
            Some("thinking_delta") => self.words("reasoning_content", &delta["thinking"], so_far),
            Some("input_json_delta") => {
                let piece = delta["partial_json"].as_str().unwrap_or_default();
                let call = event["index"].as_u64().and_then(|at| self.calls.get_mut(&at));
                let Some(call) = call.filter(|_| !piece.is_empty()) else { return Step::Hide };
                so_far.output_bytes += piece.len() as u64;
                call.has_arguments = true;
                let call = json!({"index": call.index, "function": {"arguments": piece}});
                self.say(json!({"tool_calls": [call]}), None, true)
            }
            // Signatures, citations, and kinds that are not known yet.
            _ => Step::Hide,
        }
    }

    /// A call whose arguments never came has an empty object of them.
    fn end_block(&self, event: &Value, so_far: &mut StreamEnd) -> Step {
        match event["index"].as_u64().and_then(|at| self.calls.get(&at)) {
            Some(Call { index, has_arguments: false }) => {
                so_far.output_bytes += 2;
                let call = json!({"index": index, "function": {"arguments": "{}"}});
                self.say(json!({"tool_calls": [call]}), None, true)
            }
            _ => Step::Hide,
        }
    }

    fn finish(&mut self, event: &Value, so_far: &mut StreamEnd) -> Step {
        self.usage = usage::merged(std::mem::take(&mut self.usage), &event["usage"]);
        so_far.usage = usage::read(&self.usage).filter(|_| event["usage"].is_object()).or(so_far.usage);
        let Some(reason) = event.pointer("/delta/stop_reason").and_then(Value::as_str) else { return Step::Hide };
        let reason = finish_reason(reason);
        so_far.finish_reason = Some(reason.to_owned());
        so_far.finish_seen = true;
        self.say(json!({}), Some(reason), false)
    }

    fn end(&self, target: &Target, so_far: &StreamEnd) -> Result<Step, CallError> {
        if !so_far.finish_seen {
            return Err(Unfit::garbage("ended without a stop reason").into_error(target));
        }
        Ok(Step::Translated { chunk: self.last(so_far), is_content: false, is_last: true })
    }

    fn words(&self, member: &str, words: &Value, so_far: &mut StreamEnd) -> Step {
        let Some(words) = words.as_str().filter(|words| !words.is_empty()) else { return Step::Hide };
        so_far.output_bytes += words.len() as u64;
        self.say(json!({member: words}), None, true)
    }

    fn say(&self, delta: Value, finish_reason: Option<&str>, is_content: bool) -> Step {
        let choices = json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason}]);
        let usage = self.wants_usage.then_some(Value::Null);
        Step::Translated { chunk: self.chunk(choices, usage).into(), is_content, is_last: false }
    }

    fn chunk(&self, choices: Value, usage: Option<Value>) -> String {
        let mut chunk = json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model, "choices": choices,
        });
        if let Some(usage) = usage {
            chunk["usage"] = usage;
        }
        format!("data: {chunk}\n\n")
    }
}

impl Metering for Translator {
    fn take(&mut self, event: &Event, target: &Target, so_far: &mut StreamEnd) -> Result<Step, CallError> {
        let is_error = event.name.as_deref() == Some(b"error");
        let Some(data) = event.data.as_ref().filter(|data| !data.trim_ascii().is_empty()) else {
            return match event.data.is_none() && event.raw.trim_ascii_start().starts_with(b"{") {
                true => Err(answer::no_stream(&event.raw, target)),
                _ if is_error => Err(broke_off(target)),
                _ if event.is_comment() => Ok(Step::Pass),
                _ => Ok(Step::Hide),
            };
        };
        let said: Value = match serde_json::from_slice(data) {
            Ok(said) => said,
            Err(_) if is_error => return Err(broke_off(target)),
            // The event is whole, so JSON that is not was made so.
            Err(_) => return Err(Unfit::garbage("has an event that is no JSON").into_error(target)),
        };
        if let Some(error) = answer::said(&said, data, target) {
            return Err(error);
        }
        let step = match said["type"].as_str().unwrap_or_default() {
            "message_start" => self.begin(&said["message"], so_far),
            "content_block_start" => self.begin_block(&said, so_far),
            "content_block_delta" => self.go_on(&said, so_far),
            "content_block_stop" => self.end_block(&said, so_far),
            "message_delta" => self.finish(&said, so_far),
            "message_stop" => return self.end(target, so_far),
            _ if is_error => return Err(broke_off(target)),
            // As a comment it keeps the caller's connection open, and no client reads it.
            "ping" => Step::Translated { chunk: PING, is_content: false, is_last: false },
            // Anthropic adds kinds of events without a new version.
            _ => Step::Hide,
        };
        // Output is reported at the end. A stream that breaks off before has written what came, not the few tokens of its first event.
        if so_far.output_bytes > 0 && !so_far.finish_seen {
            so_far.usage = self.begun.map(|begun| usage::of_part(&begun, so_far.output_bytes));
        }
        Ok(step)
    }

    fn usage_in(&self, bytes: &[u8]) -> Option<Usage> {
        usage::find(bytes)
    }

    fn last(&self, so_far: &StreamEnd) -> Bytes {
        match so_far.usage.as_ref().filter(|_| self.wants_usage) {
            None => DONE,
            Some(usage) => {
                let usage = self.chunk(json!([]), Some(usage::in_openai_form(usage)));
                [usage.as_bytes(), &DONE[..]].concat().into()
            }
        }
    }
}

const PING: Bytes = Bytes::from_static(b": ping\n\n");

#[cfg(test)]
mod tests;
