//! The answer to a chat request.

use super::{push, push_string};
use crate::config::Config;
use crate::tokens::Tokens;
use crate::wire::request::ChatRequest;

/// What one answer says, streamed or not.
pub struct ChatAnswer<'a> {
    pub seq: u64,
    pub created_s: u64,
    pub model: &'a str,
    /// Opens the text, so that an answer can be told from another request's.
    pub print: u64,
    pub tokens: Tokens,
    pub finish_reason: &'static str,
}

/// The first words of the answer to a request whose `messages` have this JSON text, byte for byte: `re:` and 16 hex
/// digits. Tests tell by it that a result belongs to its request. Answers shorter than that begin with its beginning.
#[must_use]
pub fn chat_echo(messages_json: &str) -> String {
    echo(crate::rng::fingerprint(messages_json.as_bytes()))
}

fn echo(print: u64) -> String {
    format!("re:{print:016x} ")
}

impl<'a> ChatAnswer<'a> {
    pub fn new(seq: u64, now_us: u64, request: &'a ChatRequest<'_>, body_len: usize, config: &Config) -> Self {
        let longest = request.max_tokens().unwrap_or(u64::MAX);
        Self {
            seq,
            created_s: now_us / 1_000_000,
            model: &request.model,
            print: request.print(),
            tokens: Tokens { prompt: crate::prompt_tokens(body_len), completion: config.answer_tokens.min(longest) },
            finish_reason: if config.answer_tokens > longest { "length" } else { "stop" },
        }
    }

    /// `length` bytes of text that need no escapes in JSON.
    pub fn text(&self, length: usize, filler: &str) -> String {
        let mut text = echo(self.print);
        text.truncate(length);
        text.push_str(&filler[..(length - text.len()).min(filler.len())]);
        text
    }

    /// Bytes of text where no size is configured.
    pub fn natural_length(&self) -> usize {
        4 * self.tokens.completion as usize
    }

    /// A whole `chat.completion`.
    pub fn body(&self, config: &Config, filler: &str) -> Vec<u8> {
        let mut tail = Vec::with_capacity(320);
        push(
            &mut tail,
            format_args!(
                r#"","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"{}"}}],"usage":"#,
                self.finish_reason
            ),
        );
        self.push_usage(&mut tail);
        tail.extend_from_slice(br#","service_tier":"default","system_fingerprint":"fp_simulator"}"#);

        let mut out = Vec::with_capacity(config.answer_bytes.unwrap_or(0).max(1_024));
        self.push_head("chat.completion", &mut out);
        out.extend_from_slice(br#","choices":[{"index":0,"message":{"role":"assistant","content":""#);
        let length = match config.answer_bytes {
            Some(size) => size.saturating_sub(out.len() + tail.len()),
            None => self.natural_length(),
        };
        out.extend_from_slice(self.text(length, filler).as_bytes());
        out.extend_from_slice(&tail);
        out
    }

    /// The fields that all objects of an answer share, without the closing brace.
    pub fn push_head(&self, object: &str, out: &mut Vec<u8>) {
        let (seq, created) = (self.seq, self.created_s);
        push(out, format_args!(r#"{{"id":"chatcmpl-sim{seq:012x}","object":"{object}","created":{created},"model":"#));
        push_string(out, self.model);
    }

    pub fn push_usage(&self, out: &mut Vec<u8>) {
        let Tokens { prompt, completion } = self.tokens;
        let total = prompt + completion;
        push(
            out,
            format_args!(
                r#"{{"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":{total},"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}"#
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::deployment::Plan;

    const BODY: &str = r#"{"model":"m\"1","messages":[{"role":"user","content":"hi"}],"max_tokens":9}"#;

    fn answer(config: &Config) -> Vec<u8> {
        let request = ChatRequest::parse(BODY.as_bytes()).expect("sound");
        let plan = Plan::new(config.clone(), 0);
        ChatAnswer::new(0x2a, 1_700_000_000_999_999, &request, BODY.len(), config).body(config, &plan.filler)
    }

    #[test]
    fn an_answer_is_whole_and_bills_what_can_be_recomputed() {
        let json: Value = serde_json::from_slice(&answer(&Config::default())).expect("JSON");
        assert_eq!(json["id"], "chatcmpl-sim00000000002a");
        assert_eq!((&json["created"], &json["model"]), (&1_700_000_000.into(), &"m\"1".into()));
        let prompt = crate::prompt_tokens(BODY.len());
        assert_eq!(json["usage"]["prompt_tokens"], prompt);
        assert_eq!(json["usage"]["total_tokens"], prompt + 9);
        let choice = &json["choices"][0];
        assert_eq!(choice["finish_reason"], "length");
        let text = choice["message"]["content"].as_str().expect("text");
        assert_eq!(text.len(), 36);
        assert!(text.starts_with(&chat_echo(r#"[{"role":"user","content":"hi"}]"#)));
    }

    #[test]
    fn a_configured_size_is_met_to_the_byte() {
        for size in [1_000, 1_024, 1 << 20] {
            let config = Config { answer_bytes: Some(size), ..Config::default() };
            let body = answer(&config);
            assert_eq!(body.len(), size);
            assert!(serde_json::from_slice::<Value>(&body).is_ok());
        }
    }

    #[test]
    fn a_size_too_small_for_any_text_leaves_it_empty() {
        let config = Config { answer_bytes: Some(1), ..Config::default() };
        let json: Value = serde_json::from_slice(&answer(&config)).expect("JSON");
        assert_eq!(json["choices"][0]["message"]["content"], "");
    }

    #[test]
    fn within_the_callers_bound_the_answer_stops_by_itself() {
        let config = Config { answer_tokens: 9, ..Config::default() };
        let json: Value = serde_json::from_slice(&answer(&config)).expect("JSON");
        assert_eq!(json["choices"][0]["finish_reason"], "stop");
    }
}
