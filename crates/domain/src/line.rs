//! A request line: OpenAI's batch line, `{"custom_id","method","url","body"}`, read without copying the body.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The longest line Tollway takes, in bytes, without its line end.
pub const LONGEST_LINE: usize = 1 << 20;
pub const LONGEST_CUSTOM_ID: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    ChatCompletions,
    Embeddings,
}

impl Endpoint {
    /// The path under a provider's base URL, and with `/v1` before it the `url` of a request line.
    pub fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/chat/completions",
            Self::Embeddings => "/embeddings",
        }
    }
    pub fn from_url(url: &str) -> Option<Self> {
        match url {
            "/v1/chat/completions" => Some(Self::ChatCompletions),
            "/v1/embeddings" => Some(Self::Embeddings),
            _ => None,
        }
    }
    /// Stored as a smallint; numbers are never given again.
    pub fn code(self) -> i16 {
        match self {
            Self::ChatCompletions => 1,
            Self::Embeddings => 2,
        }
    }
    pub fn from_code(code: i16) -> Option<Self> {
        match code {
            1 => Some(Self::ChatCompletions),
            2 => Some(Self::Embeddings),
            _ => None,
        }
    }
}

/// One line, checked as far as a line alone can be checked. `body` borrows from the line.
#[derive(Debug)]
pub struct RequestLine<'a> {
    pub custom_id: Cow<'a, str>,
    pub endpoint: Endpoint,
    /// The route's name, as the caller wrote it in `body.model`.
    pub model: Cow<'a, str>,
    /// The JSON object to send, as it was written.
    pub body: &'a str,
    /// The most output tokens the body allows, when it says so.
    pub max_output: Option<i64>,
    pub stream: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    #[error("not a request line: {0}")]
    Json(String),
    #[error("custom_id is empty or longer than {LONGEST_CUSTOM_ID} bytes")]
    CustomId,
    #[error("method is {0:?}; only \"POST\" is taken")]
    Method(String),
    #[error("url is {0:?}; only \"/v1/chat/completions\" and \"/v1/embeddings\" are taken")]
    Url(String),
    #[error("body: {0}")]
    Body(String),
    #[error("a line of a job cannot be streamed; leave \"stream\" out")]
    Stream,
    #[error("the line has {0} bytes; at most {LONGEST_LINE} are taken")]
    TooLong(usize),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Outer<'a> {
    #[serde(borrow)]
    custom_id: Cow<'a, str>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    url: Cow<'a, str>,
    #[serde(borrow)]
    body: &'a RawValue,
}

/// What Tollway reads of a request body; everything else goes to the provider untouched.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    #[serde(default)]
    max_tokens: Option<i64>,
    #[serde(default)]
    max_completion_tokens: Option<i64>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(borrow, default)]
    messages: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
}

impl<'a> RequestLine<'a> {
    pub fn parse(line: &'a [u8]) -> Result<Self, BadLine> {
        if line.len() > LONGEST_LINE {
            return Err(BadLine::TooLong(line.len()));
        }
        let outer: Outer<'a> = serde_json::from_slice(line).map_err(|e| BadLine::Json(e.to_string()))?;
        if outer.custom_id.is_empty() || outer.custom_id.len() > LONGEST_CUSTOM_ID {
            return Err(BadLine::CustomId);
        }
        if outer.method != "POST" {
            return Err(BadLine::Method(outer.method.chars().take(32).collect()));
        }
        let endpoint =
            Endpoint::from_url(&outer.url).ok_or_else(|| BadLine::Url(outer.url.chars().take(64).collect()))?;
        let call = CallBody::parse(endpoint, outer.body.get())?;
        if call.stream {
            return Err(BadLine::Stream);
        }
        Ok(Self {
            custom_id: outer.custom_id,
            endpoint,
            model: call.model,
            body: outer.body.get(),
            max_output: call.max_output,
            stream: call.stream,
        })
    }

    /// A hash of the custom id for telling duplicates apart; the caller keys it, so that nobody can aim for a collision.
    pub fn custom_id_bytes(&self) -> &[u8] {
        self.custom_id.as_bytes()
    }
}

/// The parts of a call's body that admission needs, of a line or of a synchronous call.
#[derive(Debug)]
pub struct CallBody<'a> {
    pub model: Cow<'a, str>,
    pub max_output: Option<i64>,
    pub stream: bool,
}

impl<'a> CallBody<'a> {
    pub fn parse(endpoint: Endpoint, body: &'a str) -> Result<Self, BadLine> {
        let call: Body<'a> = serde_json::from_str(body).map_err(|e| BadLine::Body(e.to_string()))?;
        if call.model.is_empty() {
            return Err(BadLine::Body("model is empty".into()));
        }
        match endpoint {
            Endpoint::ChatCompletions if call.messages.is_none() => {
                return Err(BadLine::Body("messages is missing".into()));
            }
            Endpoint::Embeddings if call.input.is_none() => {
                return Err(BadLine::Body("input is missing".into()));
            }
            _ => {}
        }
        let max_output = call.max_completion_tokens.or(call.max_tokens);
        if max_output.is_some_and(|most| most < 1) {
            return Err(BadLine::Body("max_tokens is below 1".into()));
        }
        Ok(Self { model: call.model, max_output, stream: call.stream.unwrap_or(false) })
    }
}

/// Input tokens guessed from bytes, rounded up: about four bytes a token in English JSON. Used before a call; the
/// provider's own count replaces it.
pub fn estimate_tokens(bytes: usize) -> i64 {
    (bytes as i64 + 3) / 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(line: &str, expected: Result<(), &str>) {
        let got = RequestLine::parse(line.as_bytes()).map(|_| ()).map_err(|e| e.to_string());
        match expected {
            Ok(()) => assert_eq!(got, Ok(()), "{line}"),
            Err(part) => assert!(got.as_ref().is_err_and(|e| e.contains(part)), "{line}: {got:?}"),
        }
    }

    #[test]
    fn lines_are_taken_or_refused_with_a_reason() {
        let line = |method: &str, url: &str, body: &str| {
            format!(r#"{{"custom_id":"a","method":"{method}","url":"{url}","body":{body}}}"#)
        };
        let embed = r#"{"model":"e5","input":"hello"}"#;
        check(&line("POST", "/v1/embeddings", embed), Ok(()));
        check(&line("GET", "/v1/embeddings", embed), Err("method"));
        check(&line("POST", "/v1/images", embed), Err("url"));
        check(&line("POST", "/v1/chat/completions", embed), Err("messages is missing"));
        check(&line("POST", "/v1/embeddings", r#"{"input":"x"}"#), Err("missing field `model`"));
        check(&line("POST", "/v1/chat/completions", r#"{"model":"m","messages":[],"stream":true}"#), Err("streamed"));
        check(&line("POST", "/v1/chat/completions", r#"{"model":"m","messages":[],"max_tokens":0}"#), Err("below 1"));
        check(
            r#"{"custom_id":"","method":"POST","url":"/v1/embeddings","body":{"model":"e","input":1}}"#,
            Err("custom_id"),
        );
        check(r#"{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{},"extra":1}"#, Err("unknown field"));
        check("{", Err("not a request line"));
    }

    #[test]
    fn the_body_is_kept_as_written() {
        let line =
            r#"{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{ "model" : "e5",  "input":["x"] }}"#;
        assert_eq!(RequestLine::parse(line.as_bytes()).unwrap().body, r#"{ "model" : "e5",  "input":["x"] }"#);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = RequestLine::parse(&bytes);
        }
    }
}
