//! Answers to requests that ask for more than a text: tools, a schema, several choices, log probabilities.

use serde_json::{Value, json};

use super::chat::ChatAnswer;
use super::request::ChatRequest;
use super::schema::instance;
use super::shape::{Format, Shape, ToolChoice};
use crate::config::Config;
use crate::tokens::Tokens;

/// An answer of one or more choices.
pub struct Shaped<'a> {
    base: ChatAnswer<'a>,
    choices: Vec<Choice>,
    /// How many alternatives each token is given with its probability.
    top_logprobs: Option<usize>,
}

struct Choice {
    said: Said,
    finish_reason: &'static str,
}

enum Said {
    Text(String),
    Call { id: String, name: String, arguments: String },
}

impl<'a> Shaped<'a> {
    pub fn new(
        mut base: ChatAnswer<'a>,
        request: &ChatRequest<'_>,
        shape: &Shape,
        config: &Config,
        filler: &str,
    ) -> Self {
        let longest = request.max_tokens().unwrap_or(u64::MAX);
        let choice = |n: usize| {
            let (said, finish_reason) = base.said(n, shape, config, filler);
            said.within(longest, finish_reason)
        };
        let choices: Vec<Choice> = (0..shape.choices()).map(choice).collect();
        base.tokens.completion = choices.iter().map(|choice| choice.said.tokens()).sum();
        Self { base, choices, top_logprobs: shape.top_logprobs() }
    }

    pub fn tokens(&self) -> Tokens {
        self.base.tokens
    }

    /// A whole `chat.completion`.
    pub fn body(&self) -> Vec<u8> {
        let choices: Vec<Value> = self.choices.iter().enumerate().map(|(n, choice)| self.whole(n, choice)).collect();
        self.object("chat.completion", |out| {
            push_member(out, "choices", &choices.into());
            out.extend_from_slice(br#","usage":"#);
            self.base.push_usage(out);
        })
    }

    fn whole(&self, index: usize, choice: &Choice) -> Value {
        let message = match &choice.said {
            Said::Text(text) => json!({"role": "assistant", "content": text, "refusal": null, "annotations": []}),
            Said::Call { id, name, arguments } => json!({
                "role": "assistant", "content": null, "refusal": null, "annotations": [],
                "tool_calls": [{"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}],
            }),
        };
        let logprobs = self.logprobs(choice.said.text());
        json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": choice.finish_reason})
    }

    /// All events of the answer as a stream, each with the completion tokens that it and those before it hold.
    pub fn events(&self, wants_usage: bool, pieces: usize) -> Vec<(Vec<u8>, u64)> {
        let mut events = Vec::new();
        let mut tokens = 0;
        let mut event = |choices: Value, tokens: u64| {
            let body = self.object("chat.completion.chunk", |out| {
                push_member(out, "choices", &choices);
                if wants_usage {
                    out.extend_from_slice(br#","usage":"#);
                    match choices.as_array().is_some_and(Vec::is_empty) {
                        true => self.base.push_usage(out),
                        false => out.extend_from_slice(b"null"),
                    }
                }
            });
            events.push(([b"data: ", &body[..], b"\n\n"].concat(), tokens));
        };
        for (index, choice) in self.choices.iter().enumerate() {
            let one = |delta: Value, logprobs: Value, finish: Option<&str>| json!([{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}]);
            let begun = tokens;
            event(one(choice.said.opening(), Value::Null, None), begun);
            let whole = choice.said.text();
            for n in 0..pieces {
                let at = |n| whole.floor_char_boundary(whole.len() * n / pieces);
                let piece = &whole[at(n)..at(n + 1)];
                tokens = begun + choice.said.tokens() * (n as u64 + 1) / pieces as u64;
                event(one(choice.said.delta(piece), self.logprobs(piece), None), tokens);
            }
            event(one(json!({}), Value::Null, Some(choice.finish_reason)), tokens);
        }
        if wants_usage {
            event(json!([]), tokens);
        }
        events.push((b"data: [DONE]\n\n".to_vec(), tokens));
        events
    }

    fn object(&self, kind: &str, rest: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::with_capacity(1_024);
        self.base.push_head(kind, &mut out);
        out.extend_from_slice(br#","service_tier":"default","system_fingerprint":"fp_simulator""#);
        rest(&mut out);
        out.push(b'}');
        out
    }

    /// Of each token, four bytes of the text.
    fn logprobs(&self, text: &str) -> Value {
        let Some(top) = self.top_logprobs else { return Value::Null };
        let one = |token: &str, rank: usize| {
            let logprob = -0.125 * (rank as f64 + 1.0);
            json!({"token": token, "logprob": logprob, "bytes": token.as_bytes()})
        };
        let letters: Vec<char> = text.chars().collect();
        let tokens = letters.chunks(4).map(|letters| {
            let token: String = letters.iter().collect();
            let mut with = one(&token, 0);
            with["top_logprobs"] =
                (0..top).map(|rank| one(&token[..token.floor_char_boundary(4 - rank.min(3))], rank)).collect();
            with
        });
        json!({"content": tokens.collect::<Vec<_>>(), "refusal": null})
    }
}

fn push_member(out: &mut Vec<u8>, name: &str, value: &Value) {
    super::push(out, format_args!(r#","{name}":{value}"#));
}

impl ChatAnswer<'_> {
    /// What choice `n` says, and why it ends.
    fn said(&self, n: usize, shape: &Shape, config: &Config, filler: &str) -> (Said, &'static str) {
        let echo = self.text(19, filler);
        if let Some(tool) = shape.tool_to_call() {
            let arguments = instance(&tool.parameters, &echo).to_string();
            let id = format!("call_sim{:012x}{n:02x}", self.seq);
            // A call that the request names ends as a plain answer does.
            let reason = if matches!(shape.tool_choice(), ToolChoice::Named(_)) { "stop" } else { "tool_calls" };
            return (Said::Call { id, name: tool.name, arguments }, reason);
        }
        match shape.format() {
            Format::Text => {
                let length = config.answer_bytes.unwrap_or(4 * config.answer_tokens as usize);
                (Said::Text(self.text(length, filler)), "stop")
            }
            Format::Object => (Said::Text(json!({"answer": echo}).to_string()), "stop"),
            Format::Schema(schema) => (Said::Text(instance(&schema, &echo).to_string()), "stop"),
        }
    }
}

impl Said {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Call { arguments, .. } => arguments,
        }
    }

    fn tokens(&self) -> u64 {
        self.text().len().div_ceil(4) as u64
    }

    /// Cut where the caller's maximum is.
    fn within(mut self, longest: u64, finish_reason: &'static str) -> Choice {
        if self.tokens() <= longest {
            return Choice { said: self, finish_reason };
        }
        let (Self::Text(text) | Self::Call { arguments: text, .. }) = &mut self;
        text.truncate(text.floor_char_boundary(4 * longest as usize));
        Choice { said: self, finish_reason: "length" }
    }

    fn opening(&self) -> Value {
        match self {
            Self::Text(_) => json!({"role": "assistant", "content": "", "refusal": null}),
            Self::Call { id, name, .. } => json!({
                "role": "assistant", "content": null,
                "tool_calls": [{"index": 0, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}],
            }),
        }
    }

    fn delta(&self, piece: &str) -> Value {
        match self {
            Self::Text(_) => json!({"content": piece}),
            Self::Call { .. } => json!({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::Plan;

    fn shaped(more: Value) -> (Value, Vec<Value>) {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut().expect("object").extend(more.as_object().cloned().expect("object"));
        let body = body.to_string();
        let (config, request) = (Config::default(), ChatRequest::parse(body.as_bytes()).expect("sound"));
        let shape = request.shape().expect("sound").expect("more than a text");
        let plan = Plan::new(config.clone(), 0);
        let answer = ChatAnswer::new(1, 0, &request, body.len(), &config);
        let shaped = Shaped::new(answer, &request, &shape, &config, &plan.filler);
        let events = shaped
            .events(true, 3)
            .into_iter()
            .filter_map(|(event, _)| serde_json::from_slice(event.strip_prefix(b"data: ")?.trim_ascii()).ok());
        (serde_json::from_slice(&shaped.body()).expect("JSON"), events.collect())
    }

    /// What the deltas of choice `n` add up to, by `pointer` in each.
    fn streamed(events: &[Value], n: usize, pointer: &str) -> String {
        let deltas = events.iter().flat_map(|event| event["choices"].as_array().expect("choices"));
        deltas
            .filter(|choice| choice["index"] == n)
            .filter_map(|choice| choice["delta"].pointer(pointer)?.as_str())
            .collect()
    }

    const TOOL: &str = r#"[{"type":"function","function":{"name":"weather","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}}]"#;

    fn tools() -> Value {
        serde_json::from_str(TOOL).expect("JSON")
    }

    #[test]
    fn a_tool_is_called_with_arguments_that_its_schema_allows() {
        let (body, events) = shaped(json!({"tools": tools()}));
        let choice = &body["choices"][0];
        assert_eq!((&choice["finish_reason"], &choice["message"]["content"]), (&json!("tool_calls"), &Value::Null));
        let call = &choice["message"]["tool_calls"][0]["function"];
        assert_eq!(call["name"], "weather");
        let arguments = call["arguments"].as_str().expect("text");
        assert!(serde_json::from_str::<Value>(arguments).expect("JSON")["city"].is_string());
        assert_eq!(streamed(&events, 0, "/tool_calls/0/function/arguments"), arguments);
        let (named, _) =
            shaped(json!({"tools": tools(), "tool_choice": {"type": "function", "function": {"name": "weather"}}}));
        assert_eq!(named["choices"][0]["finish_reason"], "stop");
    }

    #[test]
    fn the_result_of_a_tool_is_answered_in_words() {
        let messages =
            json!([{"role": "user", "content": "hi"}, {"role": "tool", "tool_call_id": "c", "content": "12"}]);
        for more in [json!({"tools": tools(), "messages": messages}), json!({"tools": tools(), "tool_choice": "none"})]
        {
            assert!(shaped(more).0["choices"][0]["message"]["content"].is_string());
        }
    }

    #[test]
    fn a_schema_is_kept_to() {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
        let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
        let (body, events) = shaped(json!({"response_format": format}));
        let text = body["choices"][0]["message"]["content"].as_str().expect("text");
        assert_eq!(serde_json::from_str::<Value>(text).expect("JSON"), json!({"n": 1}));
        assert_eq!(streamed(&events, 0, "/content"), text);
        let (body, _) = shaped(json!({"response_format": {"type": "json_object"}}));
        let text = body["choices"][0]["message"]["content"].as_str().expect("text");
        assert!(serde_json::from_str::<Value>(text).expect("JSON").is_object());
    }

    #[test]
    fn each_choice_is_answered_and_billed() {
        let (body, events) = shaped(json!({"n": 3, "max_tokens": 5}));
        assert_eq!(body["choices"].as_array().map(Vec::len), Some(3));
        assert_eq!(body["usage"]["completion_tokens"], 15);
        assert_eq!((&body["choices"][2]["index"], &body["choices"][2]["finish_reason"]), (&json!(2), &json!("length")));
        assert_eq!(streamed(&events, 2, "/content").len(), 20);
        assert_eq!(events.last().expect("usage")["usage"]["completion_tokens"], 15);
    }

    #[test]
    fn log_probabilities_cover_the_text() {
        let (body, events) = shaped(json!({"logprobs": true, "top_logprobs": 2}));
        let tokens = body["choices"][0]["logprobs"]["content"].as_array().expect("tokens");
        let text: String = tokens.iter().filter_map(|token| token["token"].as_str()).collect();
        assert_eq!(text, body["choices"][0]["message"]["content"].as_str().expect("text"));
        assert!(
            tokens.iter().all(|token| token["logprob"].as_f64() < Some(0.0)
                && token["top_logprobs"].as_array().map(Vec::len) == Some(2))
        );
        assert!(events[1]["choices"][0]["logprobs"]["content"].is_array());
    }
}
