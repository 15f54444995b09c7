//! OpenAI's chunks, read as they pass.

use bytes::Bytes;
use domain::{Endpoint, ErrorClass, Usage};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    answer::{Bad, text},
    chat,
    output::{has_output, output_bytes},
    usage,
};
use crate::{
    client::{Unfit, error_inside, sse::Event},
    error::CallError,
    stream::{Metering, Step, StreamEnd},
    target::{Extra, Target},
};

pub(super) struct Meter {
    hides_usage: bool,
    begun: Indexes,
    finished: Indexes,
    has_content: bool,
}

/// Indexes of choices; `n` is at most 128.
#[derive(Default, PartialEq, Eq, Clone, Copy)]
struct Indexes(u128);

impl Indexes {
    fn add(&mut self, index: u32) {
        self.0 |= 1 << index.min(127);
    }
    fn count(self) -> u32 {
        self.0.count_ones()
    }
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    model: Option<&'a RawValue>,
    #[serde(borrow, default)]
    service_tier: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: u32,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    finish_reason: Option<&'a RawValue>,
}

impl Meter {
    /// `added`: what Tollway asked for beyond the caller's request.
    pub fn new(added: Option<Extra>) -> Self {
        let hides_usage = added == Some(Extra::StreamUsage);
        Self { hides_usage, begun: Indexes::default(), finished: Indexes::default(), has_content: false }
    }

    fn end(&self, target: &Target) -> Result<Step, CallError> {
        if self.finished == Indexes::default() || self.finished != self.begun {
            return Err(Unfit::garbage("ended without a finish reason").into_error(target));
        }
        Ok(Step::Done)
    }
}

impl Metering for Meter {
    fn take(&mut self, event: &Event, target: &Target, so_far: &mut StreamEnd) -> Result<Step, CallError> {
        let data = event.data.as_ref().filter(|data| !data.trim_ascii().is_empty());
        if event.name.as_deref() == Some(b"error") {
            return Err(said_in_event(data, target));
        }
        let Some(data) = data else {
            if event.data.is_none() && event.raw.trim_ascii_start().starts_with(b"{") {
                return Err(no_stream(&event.raw, target));
            }
            return Ok(if event.is_comment() { Step::Pass } else { Step::Hide });
        };
        if data.trim_ascii() == b"[DONE]" {
            return self.end(target);
        }
        // The event is whole, so JSON that is not was made so.
        let chunk: Chunk<'_> = serde_json::from_slice(data)
            .map_err(|_| Unfit::garbage("has an event that is no JSON chunk").into_error(target))?;
        if let Some(usage) = usage::read(chunk.usage, Endpoint::ChatCompletions) {
            so_far.usage = Some(usage);
        }
        if let Some(error) = chunk.error {
            return Err(error_inside(error, data.clone(), target));
        }
        if so_far.model.is_none() {
            so_far.model = text(chunk.model).filter(|model| !model.is_empty());
        }
        if let Some(tier) = text(chunk.service_tier) {
            so_far.service_tier = Some(tier);
        }
        let choices = chunk.choices.unwrap_or_default();
        let is_first_content = !self.has_content && choices.iter().filter_map(|choice| choice.delta).any(has_output);
        self.has_content |= is_first_content;
        for choice in &choices {
            self.begun.add(choice.index);
            so_far.output_bytes += choice.delta.map_or(0, output_bytes);
            let Some(reason) = text(choice.finish_reason).filter(|reason| !reason.is_empty()) else {
                continue;
            };
            if reason == "error" {
                return Err(Unfit::new(ErrorClass::ServerError, "says that the model failed").into_error(target));
            }
            self.finished.add(choice.index);
            so_far.finish_reason = Some(reason);
        }
        so_far.finish_seen = self.finished != Indexes::default() && self.finished == self.begun;
        so_far.choices = self.begun.count();
        Ok(match choices.is_empty() {
            true if self.hides_usage && chunk.usage.is_some() => Step::Hide,
            _ if is_first_content => Step::Content,
            _ => Step::Pass,
        })
    }

    fn usage_in(&self, bytes: &[u8]) -> Option<Usage> {
        usage::find(bytes, Endpoint::ChatCompletions)
    }
}

/// The error for a whole JSON answer in place of a stream: the provider's own, or `Garbage` with the usage that was paid for.
pub(super) fn no_stream(body: &Bytes, target: &Target) -> CallError {
    let usage = match chat::read(body, target) {
        Err(Bad::Said(error)) => return error,
        Err(Bad::Unfit(unfit) | Bad::Encoding(unfit)) => unfit.usage,
        Ok(read) => read.usage,
    };
    Unfit::garbage("is no event stream").with_usage(usage).into_error(target)
}

/// An event that its name calls an error, whatever its data are.
fn said_in_event(data: Option<&Bytes>, target: &Target) -> CallError {
    match data.and_then(|data| Some((data, serde_json::from_slice::<&RawValue>(data).ok()?))) {
        Some((data, said)) => error_inside(said, data.clone(), target),
        None => Unfit::new(ErrorClass::ServerError, "broke off with an error event").into_error(target),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{client::sse::Events, target::tests::deployment};

    /// One letter an event: Pass, Content, Hide, Done, or the class of the error that ended it.
    fn run(added: Option<Extra>, stream: &str) -> (String, StreamEnd) {
        let target = Target::resolve("d", &deployment("http://x")).unwrap();
        let (mut meter, mut so_far, mut events) = (Meter::new(added), StreamEnd::default(), Events::new(1 << 20));
        events.push(stream.as_bytes());
        let mut steps = String::new();
        while let Some(event) = events.next().unwrap() {
            match meter.take(&event, &target, &mut so_far) {
                Ok(Step::Pass) => steps.push('P'),
                Ok(Step::Content) => steps.push('C'),
                Ok(Step::Hide) => steps.push('H'),
                Ok(Step::Done) => steps.push('D'),
                Ok(Step::Translated { .. }) => panic!("OpenAI's events pass as they are"),
                Err(error) => return (steps + error.class.as_str(), so_far),
            }
        }
        (steps, so_far)
    }

    const WORDS: &str = "data: {\"model\":\"m-1\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n\
        : ping\n\n\
        data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"h\\u00e9\"},\"finish_reason\":null}],\"usage\":null}\n\n";
    const STOP: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";

    fn check(added: Option<Extra>, parts: &[&str], steps: &str) -> StreamEnd {
        let (got, end) = run(added, &parts.concat());
        assert_eq!(got, steps, "{parts:?}");
        end
    }

    #[test]
    fn usage_is_hidden_only_from_callers_who_did_not_ask() {
        let end = check(Some(Extra::StreamUsage), &[WORDS, STOP, USAGE, DONE], "PPCPHD");
        assert_eq!(end.usage.and_then(|usage| usage.output_total()), Some(2));
        assert_eq!((end.model.as_deref(), end.finish_reason.as_deref()), (Some("m-1"), Some("stop")));
        assert_eq!((end.finish_seen, end.output_bytes), (true, 3));
        check(None, &[WORDS, STOP, USAGE, DONE], "PPCPPD");
    }

    #[test]
    fn an_end_without_a_finish_reason_is_no_end() {
        assert!(!check(None, &[WORDS, DONE], "PPCgarbage").finish_seen);
        check(None, &[DONE], "garbage");
        let second = "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"x\"}}]}\n\n";
        check(None, &[WORDS, second, STOP, DONE], "PPCPPgarbage");
    }

    #[test]
    fn an_event_without_data_says_nothing() {
        check(None, &["data:\n\n", "data: \n\n", "id: 7\n\n", "event: ping\n\n", ": ping\n\n", STOP, DONE], "HHHHPPD");
    }

    #[test]
    fn a_role_is_no_content_and_a_tool_or_an_image_is() {
        let delta = |delta: &str| format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{delta}}}]}}\n\n");
        for (given, step) in [
            (r#"{"role":"assistant"}"#, "P"),
            (r#"{"role":"assistant","content":"","refusal":null,"tool_calls":[]}"#, "P"),
            (r#"{"content":" "}"#, "C"),
            (r#"{"reasoning_content":"hm"}"#, "C"),
            (r#"{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":""}}]}"#, "C"),
            (r#"{"images":[{"image_url":{"url":"data:image/png;base64,AA"}}]}"#, "C"),
        ] {
            check(None, &[&delta(given)], step);
        }
    }

    #[test]
    fn an_error_in_the_stream_is_an_error() {
        check(None, &[WORDS, "data: {\"error\":{\"type\":\"overloaded_error\"}}\n\n", DONE], "PPCoverloaded");
        check(None, &[WORDS, "event: error\ndata: {\"message\":\"x\"}\n\n", DONE], "PPCserver_error");
        check(None, &["event: error\ndata: {\"error\":{\"code\":429}}\n\n"], "throttled");
        check(None, &["event: error\ndata: out of memory\n\n"], "server_error");
        check(None, &["event: error\n\n"], "server_error");
        check(None, &["data: {\"choices\":[{\"finish_reason\":\"error\"}]}\n\n"], "server_error");
        check(None, &["{\"error\":{\"code\":429}}\n\n"], "throttled");
        check(None, &["{\"choices\":[{\"message\":{},\"finish_reason\":\"stop\"}]}\n\n"], "garbage");
        check(None, &[WORDS, "data: <html>\n\n"], "PPCgarbage");
        check(None, &[WORDS, "data: {\"choices\":[{\n\n"], "PPCgarbage");
    }
}
