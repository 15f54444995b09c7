//! The message, whole and in events.

use serde_json::{Value, json};

use super::MessagesRequest;
use crate::config::Config;
use crate::tokens::Tokens;
use crate::wire::chat::ChatAnswer;
use crate::wire::schema::instance;

/// What one message says, streamed or not.
pub struct Message<'a> {
    base: ChatAnswer<'a>,
    said: Said,
    stop_reason: &'static str,
}

enum Said {
    Text(String),
    Use { id: String, name: String, input: Value },
}

impl<'a> Message<'a> {
    pub fn new(
        seq: u64,
        now_us: u64,
        request: &'a MessagesRequest<'_>,
        body_len: usize,
        config: &Config,
        filler: &str,
    ) -> Self {
        let longest = request.max_tokens();
        let mut base = ChatAnswer {
            seq,
            created_s: now_us / 1_000_000,
            model: &request.model,
            print: request.print(),
            tokens: Tokens { prompt: crate::prompt_tokens(body_len), completion: config.answer_tokens.min(longest) },
            finish_reason: "stop",
        };
        let billed = |text: &str| text.len().div_ceil(4) as u64;
        if let Some(tool) = request.tool_to_use() {
            let input = instance(&tool.input_schema, &base.text(19, filler));
            base.tokens.completion = billed(&input.to_string());
            let said = Said::Use { id: format!("toolu_sim{seq:012x}"), name: tool.name.clone(), input };
            return Self { base, said, stop_reason: "tool_use" };
        }
        if let Some(schema) = request.schema() {
            let text = instance(schema, &base.text(19, filler)).to_string();
            base.tokens.completion = billed(&text);
            return Self { base, said: Said::Text(text), stop_reason: "end_turn" };
        }
        let said = Said::Text(base.text(config.answer_bytes.unwrap_or(base.natural_length()), filler));
        let stop_reason = if config.answer_tokens > longest { "max_tokens" } else { "end_turn" };
        Self { base, said, stop_reason }
    }

    pub fn tokens(&self) -> Tokens {
        self.base.tokens
    }

    pub fn body(&self) -> Vec<u8> {
        let block = match &self.said {
            Said::Text(text) => json!({"type": "text", "text": text}),
            Said::Use { id, name, input } => json!({"type": "tool_use", "id": id, "name": name, "input": input}),
        };
        self.message(json!([block]), self.stop_reason.into(), self.base.tokens.completion).to_string().into_bytes()
    }

    fn message(&self, content: Value, stop_reason: Value, output: u64) -> Value {
        json!({
            "id": format!("msg_sim{:012x}", self.base.seq), "type": "message", "role": "assistant", "model": self.base.model,
            "content": content, "stop_reason": stop_reason, "stop_sequence": null,
            "usage": {
                "input_tokens": self.base.tokens.prompt, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
                "output_tokens": output, "service_tier": "standard",
            },
        })
    }

    /// All events, each with the output tokens given with it and those before it.
    pub fn events(&self, pieces: usize) -> Vec<(Vec<u8>, u64)> {
        let all = self.base.tokens.completion;
        let (block, text) = match &self.said {
            Said::Text(text) => (json!({"type": "text", "text": ""}), text.clone()),
            Said::Use { id, name, input } => {
                (json!({"type": "tool_use", "id": id, "name": name, "input": {}}), input.to_string())
            }
        };
        let mut events = vec![
            event(&json!({"type": "message_start", "message": self.message(json!([]), Value::Null, 1)}), 0),
            event(&json!({"type": "content_block_start", "index": 0, "content_block": block}), 0),
            event(&json!({"type": "ping"}), 0),
        ];
        for n in 0..pieces {
            let at = |n| text.floor_char_boundary(text.len() * n / pieces);
            let piece = &text[at(n)..at(n + 1)];
            let delta = match &self.said {
                Said::Text(_) => json!({"type": "text_delta", "text": piece}),
                Said::Use { .. } => json!({"type": "input_json_delta", "partial_json": piece}),
            };
            let tokens = all * (n as u64 + 1) / pieces as u64;
            events.push(event(&json!({"type": "content_block_delta", "index": 0, "delta": delta}), tokens));
        }
        let end = json!({
            "type": "message_delta", "delta": {"stop_reason": self.stop_reason, "stop_sequence": null},
            "usage": {"output_tokens": all},
        });
        events.push(event(&json!({"type": "content_block_stop", "index": 0}), all));
        events.push(event(&end, all));
        events.push(event(&json!({"type": "message_stop"}), all));
        events
    }
}

fn event(data: &Value, tokens: u64) -> (Vec<u8>, u64) {
    let name = data["type"].as_str().unwrap_or_default();
    (format!("event: {name}\ndata: {data}\n\n").into_bytes(), tokens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::Plan;

    fn message(more: &Value) -> (Value, Vec<Value>) {
        let mut body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut().expect("object").extend(more.as_object().cloned().expect("object"));
        let body = body.to_string();
        let request = MessagesRequest::parse(body.as_bytes()).expect("sound");
        let plan = Plan::new(Config::default(), 0);
        let message = Message::new(1, 0, &request, body.len(), &plan.config, &plan.filler);
        let events = message.events(4).into_iter().map(|(event, _)| {
            let text = String::from_utf8(event).expect("UTF-8");
            let (name, data) = text.trim_end().split_once("\ndata: ").expect("two lines");
            let data: Value = serde_json::from_str(data).expect("JSON");
            assert_eq!(name, format!("event: {}", data["type"].as_str().expect("a type")));
            data
        });
        (serde_json::from_slice(&message.body()).expect("JSON"), events.collect())
    }

    fn streamed(events: &[Value], pointer: &str) -> String {
        events.iter().filter_map(|event| event.pointer(pointer)?.as_str()).collect()
    }

    fn tools() -> Value {
        json!([{"name": "f", "input_schema": {"type": "object", "properties": {"n": {"type": "integer"}}}}])
    }

    #[test]
    fn a_text_is_as_long_as_its_maximum_and_the_events_add_up_to_it() {
        let (body, events) = message(&json!({}));
        assert_eq!((&body["stop_reason"], &body["usage"]["output_tokens"]), (&json!("max_tokens"), &json!(9)));
        let text = body["content"][0]["text"].as_str().expect("text");
        assert!(text.starts_with(&crate::chat_echo(r#"[{"role":"user","content":"hi"}]"#)));
        assert_eq!(streamed(&events, "/delta/text"), text);
        let names: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
        assert_eq!(names[..3], ["message_start", "content_block_start", "ping"]);
        assert_eq!(names[7..], ["content_block_stop", "message_delta", "message_stop"]);
        assert_eq!(events[8]["usage"]["output_tokens"], 9);
    }

    #[test]
    fn a_tool_is_used_unless_its_result_is_answered() {
        let (body, events) = message(&json!({"tools": tools()}));
        assert_eq!((&body["stop_reason"], &body["content"][0]["input"]), (&json!("tool_use"), &json!({"n": 1})));
        assert_eq!(streamed(&events, "/delta/partial_json"), r#"{"n":1}"#);
        let result =
            json!([{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "1"}]}]);
        for more in
            [json!({"tools": tools(), "messages": result}), json!({"tools": tools(), "tool_choice": {"type": "none"}})]
        {
            assert_eq!(message(&more).0["content"][0]["type"], "text");
        }
        let forced = json!({"tools": tools(), "messages": result, "tool_choice": {"type": "any"}});
        assert_eq!(message(&forced).0["stop_reason"], "tool_use");
    }

    #[test]
    fn a_schema_is_kept_to() {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
        let (body, _) = message(&json!({"output_config": {"format": {"type": "json_schema", "schema": schema}}}));
        assert_eq!(body["content"][0]["text"], r#"{"n":1}"#);
    }

    #[test]
    fn what_anthropic_refuses_is_refused() {
        for more in [
            json!({"max_tokens": null}),
            json!({"max_tokens": 0}),
            json!({"temperature": 1.5}),
            json!({"messages": []}),
            json!({"messages": [{"role": "system", "content": "x"}]}),
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}),
            json!({"tool_choice": {"type": "tool", "name": "g"}}),
        ] {
            let mut body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
            body.as_object_mut().expect("object").extend(more.as_object().cloned().expect("object"));
            let refusal = MessagesRequest::parse(body.to_string().as_bytes()).map(|_| ()).expect_err("refused");
            assert_eq!(refusal.status, 400, "{more}");
        }
    }
}
