//! Requests, read only as far as the answer needs it: texts are borrowed or fingerprinted, never copied.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::refusal::Refusal;
use super::shape::Shape;
use crate::config::MAX_DIMENSIONS;
use crate::rng::{fingerprint, mix};

/// OpenAI's own limit of inputs in one request.
const MAX_INPUTS: usize = 2_048;

#[derive(Deserialize)]
pub struct ChatRequest<'a> {
    #[serde(borrow)]
    pub model: Cow<'a, str>,
    #[serde(borrow)]
    messages: &'a RawValue,
    max_completion_tokens: Option<u64>,
    max_tokens: Option<u64>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    // What makes an answer more than a text. Read for real only where one of them is there.
    #[serde(borrow)]
    n: Option<&'a RawValue>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(borrow)]
    response_format: Option<&'a RawValue>,
    #[serde(borrow)]
    logprobs: Option<&'a RawValue>,
    #[serde(borrow)]
    top_logprobs: Option<&'a RawValue>,
    #[serde(skip)]
    body: &'a [u8],
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

impl<'a> ChatRequest<'a> {
    pub fn parse(body: &'a [u8]) -> Result<Self, Refusal> {
        let mut request: Self = serde_json::from_slice(body).map_err(|e| Refusal::bad_body(&e))?;
        request.body = body;
        match request.messages.get().as_bytes() {
            [b'[', rest @ ..] if rest.trim_ascii_start() != b"]" => Ok(request),
            _ => Err(Refusal::bad_field("messages", "must be an array with at least one message")),
        }
    }

    /// What it asks for beyond a text; `None` for nearly all requests.
    pub fn shape(&self) -> Result<Option<Shape>, Refusal> {
        let members = [self.n, self.tools, self.response_format, self.logprobs, self.top_logprobs];
        if members.iter().all(Option::is_none) {
            return Ok(None);
        }
        let shape: Shape = serde_json::from_slice(self.body).map_err(|e| Refusal::bad_body(&e))?;
        shape.check().map_err(|(member, rule)| Refusal::bad_field(member, rule))?;
        Ok(Some(shape))
    }

    pub fn is_streamed(&self) -> bool {
        self.stream == Some(true)
    }

    pub fn wants_usage(&self) -> bool {
        self.stream_options.as_ref().is_some_and(|o| o.include_usage == Some(true))
    }

    /// The caller's own bound on the answer.
    pub fn max_tokens(&self) -> Option<u64> {
        self.max_completion_tokens.or(self.max_tokens)
    }

    /// Of the text of `messages`, as it stands in the body.
    pub fn print(&self) -> u64 {
        fingerprint(self.messages.get().as_bytes())
    }
}

#[derive(Deserialize)]
pub struct EmbeddingRequest<'a> {
    #[serde(borrow)]
    pub model: Cow<'a, str>,
    input: Inputs,
    dimensions: Option<usize>,
    encoding_format: Option<Encoding>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    Float,
    Base64,
}

impl<'a> EmbeddingRequest<'a> {
    pub fn parse(body: &'a [u8]) -> Result<Self, Refusal> {
        let request: Self = serde_json::from_slice(body).map_err(|e| Refusal::bad_body(&e))?;
        if !(1..=MAX_INPUTS).contains(&request.input.0.len()) {
            return Err(Refusal::bad_field("input", "must hold 1 to 2048 inputs, none of them empty"));
        }
        if request.dimensions.is_some_and(|d| !(1..=MAX_DIMENSIONS).contains(&d)) {
            return Err(Refusal::bad_field("dimensions", "must be from 1 to 8192"));
        }
        Ok(request)
    }

    /// The fingerprint of each input.
    pub fn prints(&self) -> &[u64] {
        &self.input.0
    }

    pub fn dimensions(&self) -> Option<usize> {
        self.dimensions
    }

    pub fn encoding(&self) -> Encoding {
        self.encoding_format.unwrap_or(Encoding::Float)
    }
}

/// `input`: a text, an array of texts, an array of tokens, or an array of arrays of tokens. Kept as fingerprints.
struct Inputs(Vec<u64>);

/// One element of the array.
enum Input {
    Text(u64),
    Token(u64),
    Tokens(u64),
}

fn add_token(print: u64, token: u64) -> u64 {
    mix(print.rotate_left(1) ^ token)
}

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Inputs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, an array of texts, an array of tokens, or an array of arrays of tokens")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Inputs, E> {
                Input::text(text).map(|print| Inputs(vec![print]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Inputs, A::Error> {
                let mixed = || serde::de::Error::custom("input mixes texts, tokens and arrays of tokens");
                let mut prints = Vec::with_capacity(seq.size_hint().unwrap_or(8));
                let Some(first) = seq.next_element()? else {
                    return Ok(Inputs(prints));
                };
                match first {
                    Input::Token(token) => {
                        let mut print = add_token(0, token);
                        while let Some(next) = seq.next_element()? {
                            let Input::Token(token) = next else { return Err(mixed()) };
                            print = add_token(print, token);
                        }
                        prints.push(print);
                    }
                    Input::Text(print) => {
                        prints.push(print);
                        while let Some(next) = seq.next_element()? {
                            let Input::Text(print) = next else { return Err(mixed()) };
                            prints.push(print);
                        }
                    }
                    Input::Tokens(print) => {
                        prints.push(print);
                        while let Some(next) = seq.next_element()? {
                            let Input::Tokens(print) = next else { return Err(mixed()) };
                            prints.push(print);
                        }
                    }
                }
                Ok(Inputs(prints))
            }
        }
        from.deserialize_any(Any)
    }
}

impl Input {
    fn text<E: serde::de::Error>(text: &str) -> Result<u64, E> {
        if text.is_empty() {
            return Err(E::custom("input holds an empty text"));
        }
        Ok(fingerprint(text.as_bytes()))
    }
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct One;
        impl<'de> Visitor<'de> for One {
            type Value = Input;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a token or an array of tokens")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Input, E> {
                Input::text(text).map(Input::Text)
            }

            fn visit_u64<E: serde::de::Error>(self, token: u64) -> Result<Input, E> {
                Ok(Input::Token(token))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Input, A::Error> {
                let mut tokens = None;
                while let Some(token) = seq.next_element::<u64>()? {
                    tokens = Some(add_token(tokens.unwrap_or(0), token));
                }
                let empty = || serde::de::Error::custom("input holds an empty array of tokens");
                tokens.map(Input::Tokens).ok_or_else(empty)
            }
        }
        from.deserialize_any(One)
    }
}

#[cfg(test)]
mod tests;
