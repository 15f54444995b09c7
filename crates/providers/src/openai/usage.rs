//! OpenAI's usage object as disjoint counts. Its prompt figure includes cached, written and audio tokens, its completion
//! figure includes reasoning and audio; here each token is counted once. It is read leniently: a backend that sends null
//! or a float for one count must not turn a paid call into an unmetered one.

use domain::{Endpoint, Usage, UsageSource};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::client::objects_named;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Wire<'a> {
    #[serde(borrow)]
    prompt_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    total_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens_details: Option<&'a RawValue>,
    /// DeepSeek's name for cached tokens.
    #[serde(borrow)]
    prompt_cache_hit_tokens: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Details<'a> {
    #[serde(borrow)]
    cached_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_write_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    audio_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning_tokens: Option<&'a RawValue>,
}

/// The counts in `usage`; `None` unless it holds all that `endpoint` is billed by: input, and of chat output too.
pub(super) fn read(usage: Option<&RawValue>, endpoint: Endpoint) -> Option<Usage> {
    let wire: Wire<'_> = serde_json::from_str(usage?.get()).ok()?;
    let (total, completion) = (said(wire.total_tokens)?, said(wire.completion_tokens)?);
    // A total alone does not say which of it is output, and output has another price.
    let of_total = |part: i64| total.filter(|total| *total >= part).map(|total| total - part);
    let prompt = match said(wire.prompt_tokens)? {
        Some(prompt) => prompt,
        None if endpoint == Endpoint::Embeddings => of_total(completion.unwrap_or(0))?,
        None => of_total(completion?)?,
    };
    let input = details(wire.prompt_tokens_details);
    let mut left = Left(prompt);
    let cached = count(input.cached_tokens).or_else(|| count(wire.prompt_cache_hit_tokens));
    let mut usage = Usage {
        cache_read: left.take(cached),
        cache_write_5m: left.take(count(input.cache_write_tokens)),
        input_audio: left.take(count(input.audio_tokens)),
        input_uncached: Some(left.0),
        source: UsageSource::Provider,
        ..Usage::default()
    };
    if endpoint == Endpoint::Embeddings {
        return Some(usage);
    }
    let completion = completion.or_else(|| of_total(prompt))?;
    let output = details(wire.completion_tokens_details);
    let reasoning = count(output.reasoning_tokens);
    // xAI and others count reasoning beside the completion; their total gives it away.
    let beside = reasoning.filter(|n| *n > 0 && total == Some(prompt.saturating_add(completion).saturating_add(*n)));
    let mut left = Left(completion.saturating_add(beside.unwrap_or(0)));
    usage.output_reasoning = left.take(reasoning);
    usage.output_audio = left.take(count(output.audio_tokens));
    usage.output_text = Some(left.0);
    Some(usage)
}

/// What remains of a total. No part takes more than is left, so that the parts always sum to it.
struct Left(i64);

impl Left {
    fn take(&mut self, part: Option<i64>) -> Option<i64> {
        let part = part?.min(self.0);
        self.0 -= part;
        Some(part)
    }
}

fn details(raw: Option<&RawValue>) -> Details<'_> {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
}

/// The usage object that stands last in `bytes`, JSON that is too large or not whole.
pub(super) fn find(bytes: &[u8], endpoint: Endpoint) -> Option<Usage> {
    objects_named(bytes, "usage").find_map(|object| read(Some(object), endpoint))
}

/// `Some(None)` where nothing is said; `None` where it is no number of tokens: then none of the object is believed.
fn said(raw: Option<&RawValue>) -> Option<Option<i64>> {
    match raw.map(RawValue::get) {
        None | Some("null") => Some(None),
        Some(_) => count(raw).map(Some),
    }
}

/// A whole number of tokens; `None` for anything else.
fn count(raw: Option<&RawValue>) -> Option<i64> {
    let text = raw?.get();
    let whole = |n: f64| (n.fract() == 0.0 && n.abs() < 9e15).then_some(n as i64);
    text.parse().ok().or_else(|| text.parse().ok().and_then(whole)).filter(|n| *n >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(endpoint: Endpoint, usage: &str, expected: Option<Usage>) {
        let raw: &RawValue = serde_json::from_str(usage).unwrap();
        assert_eq!(read(Some(raw), endpoint), expected, "{usage}");
    }

    fn chat(usage: &str, expected: Usage) {
        check(Endpoint::ChatCompletions, usage, Some(expected));
    }

    #[test]
    fn openai_with_everything_is_split_into_disjoint_parts() {
        chat(
            r#"{"prompt_tokens":1000,"completion_tokens":300,"total_tokens":1300,
                "prompt_tokens_details":{"cached_tokens":600,"audio_tokens":50},
                "completion_tokens_details":{"reasoning_tokens":200,"audio_tokens":10,
                    "accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}"#,
            Usage {
                input_uncached: Some(350),
                cache_read: Some(600),
                input_audio: Some(50),
                output_text: Some(90),
                output_reasoning: Some(200),
                output_audio: Some(10),
                ..Usage::default()
            },
        );
    }

    #[test]
    fn plain_counts_leave_the_rest_unreported() {
        let plain = Usage { input_uncached: Some(9), output_text: Some(0), ..Usage::default() };
        chat(r#"{"prompt_tokens":9,"completion_tokens":0,"total_tokens":9}"#, plain);
        chat(r#"{"prompt_tokens":9.0,"completion_tokens":0,"prompt_tokens_details":null}"#, plain);
        chat(r#"{"prompt_tokens":9,"total_tokens":9,"completion_tokens_details":"none"}"#, plain);
        let embedded = Usage { output_text: None, ..plain };
        check(Endpoint::Embeddings, r#"{"prompt_tokens":9,"total_tokens":9}"#, Some(embedded));
        check(Endpoint::Embeddings, r#"{"total_tokens":9}"#, Some(embedded));
    }

    #[test]
    fn other_names_and_other_habits() {
        chat(
            r#"{"prompt_tokens":20,"completion_tokens":5,"total_tokens":25,"prompt_cache_hit_tokens":15,"prompt_cache_miss_tokens":5}"#,
            Usage { input_uncached: Some(5), cache_read: Some(15), output_text: Some(5), ..Usage::default() },
        );
        chat(
            r#"{"prompt_tokens":32,"completion_tokens":9,"total_tokens":135,"completion_tokens_details":{"reasoning_tokens":94}}"#,
            Usage { input_uncached: Some(32), output_text: Some(9), output_reasoning: Some(94), ..Usage::default() },
        );
        chat(
            r#"{"prompt_tokens":100,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":30,"cache_write_tokens":60}}"#,
            Usage {
                input_uncached: Some(10),
                cache_read: Some(30),
                cache_write_5m: Some(60),
                output_text: Some(1),
                ..Usage::default()
            },
        );
    }

    #[test]
    fn parts_never_exceed_their_total() {
        chat(
            r#"{"prompt_tokens":10,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":99},"completion_tokens_details":{"reasoning_tokens":99}}"#,
            Usage {
                input_uncached: Some(0),
                cache_read: Some(10),
                output_text: Some(0),
                output_reasoning: Some(4),
                ..Usage::default()
            },
        );
    }

    #[test]
    fn counts_that_are_missing_leave_it_to_an_estimate() {
        assert_eq!(read(None, Endpoint::ChatCompletions), None);
        for unusable in [
            "{}",
            "[]",
            "\"12\"",
            r#"{"prompt_tokens":12}"#,
            r#"{"total_tokens":7}"#,
            r#"{"completion_tokens":7}"#,
            r#"{"prompt_tokens":-1,"completion_tokens":1}"#,
            r#"{"prompt_tokens":5,"completion_tokens":-1,"total_tokens":9}"#,
            r#"{"prompt_tokens":5,"completion_tokens":1.5}"#,
            r#"{"prompt_tokens":5,"total_tokens":4}"#,
            r#"{"prompt_tokens":5,"completion_tokens":"2"}"#,
        ] {
            check(Endpoint::ChatCompletions, unusable, None);
        }
    }

    #[test]
    fn usage_is_found_in_what_is_not_whole() {
        let find = |text: &str| find(text.as_bytes(), Endpoint::ChatCompletions).and_then(|usage| usage.total());
        assert_eq!(find(r#"…AAAA"}}],"usage" : {"prompt_tokens":3,"completion_tokens":4},"id":"x"}"#), Some(7));
        assert_eq!(
            find(r#"{"usage":{"prompt_tokens":3,"completion_tokens":4},"choices":[{"message":{"content":"\"usage\":{"#),
            Some(7)
        );
        assert_eq!(find(r#"{"usage":{"prompt_tokens":3,"compl"#), None);
        assert_eq!(find(""), None);
    }
}
