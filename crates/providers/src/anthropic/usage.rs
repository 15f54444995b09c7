//! Anthropic's usage object as disjoint counts. Its input figure excludes tokens read from and written to the cache; its output figure
//! includes thinking.

use domain::{Usage, UsageSource, line::estimate_tokens};
use serde_json::{Value, json, value::RawValue};

use crate::client::objects_named;

/// The counts in `usage`; `None` unless it holds input and output.
pub(super) fn read(usage: &Value) -> Option<Usage> {
    let count = |pointer: &str| usage.pointer(pointer).and_then(whole);
    let long = count("/cache_creation/ephemeral_1h_input_tokens");
    // What is not said to be kept for an hour is kept for five minutes, which is the rule.
    let short = match count("/cache_creation_input_tokens") {
        Some(written) => Some((written - long.unwrap_or(0)).max(0)),
        None => count("/cache_creation/ephemeral_5m_input_tokens"),
    };
    let output = count("/output_tokens")?;
    let thinking = count("/output_tokens_details/thinking_tokens").map(|thinking| thinking.min(output));
    Some(Usage {
        input_uncached: Some(count("/input_tokens")?),
        cache_read: count("/cache_read_input_tokens"),
        cache_write_5m: short,
        cache_write_1h: long,
        output_text: Some(output - thinking.unwrap_or(0)),
        output_reasoning: thinking,
        source: UsageSource::Provider,
        ..Usage::default()
    })
}

/// `earlier` with the counts of `later` in the place of its own: in a stream each event's counts are cumulative, and some are left out.
pub(super) fn merged(earlier: Value, later: &Value) -> Value {
    let Value::Object(later) = later else { return earlier };
    let mut all = match earlier {
        Value::Object(all) => all,
        _ => serde_json::Map::new(),
    };
    all.extend(later.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.clone(), value.clone())));
    all.into()
}

/// Usage of a stream that broke off after `output_bytes`: the input that its first event reported, and an estimate of the output.
pub(super) fn of_part(begun: &Usage, output_bytes: u64) -> Usage {
    let came = estimate_tokens(usize::try_from(output_bytes).unwrap_or(usize::MAX));
    let output = came.max(begun.output_total().unwrap_or(0));
    Usage { output_text: Some(output), output_reasoning: None, source: UsageSource::Estimated, ..*begun }
}

/// As OpenAI writes it: the prompt with all that was cached, and a total.
pub(super) fn in_openai_form(usage: &Usage) -> Value {
    let (prompt, output) = (usage.prompt_total().unwrap_or(0), usage.output_total().unwrap_or(0));
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt.saturating_add(output),
        "prompt_tokens_details": {"cached_tokens": usage.cache_read.unwrap_or(0)},
        "completion_tokens_details": {"reasoning_tokens": usage.output_reasoning.unwrap_or(0)},
    })
}

/// The usage that stands last in `bytes`, JSON that is too large or not whole.
pub(super) fn find(bytes: &[u8]) -> Option<Usage> {
    objects_named(bytes, "usage").find_map(|raw: &RawValue| read(&serde_json::from_str(raw.get()).ok()?))
}

/// A whole number of tokens; `None` for anything else.
fn whole(value: &Value) -> Option<i64> {
    let from_float = |n: f64| (n.fract() == 0.0 && n.abs() < 9e15).then_some(n as i64);
    value.as_i64().or_else(|| value.as_f64().and_then(from_float)).filter(|count| *count >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_input_and_thinking_are_counted_once() {
        let usage = read(&json!({
            "input_tokens": 10, "output_tokens": 50, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 30,
            "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10},
            "output_tokens_details": {"thinking_tokens": 40},
        }))
        .unwrap();
        let expected = Usage {
            input_uncached: Some(10),
            cache_read: Some(100),
            cache_write_5m: Some(20),
            cache_write_1h: Some(10),
            output_text: Some(10),
            output_reasoning: Some(40),
            ..Usage::default()
        };
        assert_eq!(usage, expected);
        let form = in_openai_form(&usage);
        assert_eq!((&form["prompt_tokens"], &form["completion_tokens"]), (&json!(140), &json!(50)));
        assert_eq!(
            (&form["total_tokens"], &form["prompt_tokens_details"]["cached_tokens"]),
            (&json!(190), &json!(100))
        );
    }

    #[test]
    fn writes_without_a_split_are_of_five_minutes() {
        let counts = |usage: Value| read(&usage).map(|usage| (usage.cache_write_5m, usage.cache_write_1h));
        let base = |more: Value| merged(json!({"input_tokens": 1, "output_tokens": 1}), &more);
        assert_eq!(counts(base(json!({"cache_creation_input_tokens": 30}))), Some((Some(30), None)));
        assert_eq!(counts(base(json!({"cache_creation": {"ephemeral_5m_input_tokens": 7}}))), Some((Some(7), None)));
        assert_eq!(counts(base(json!({}))), Some((None, None)));
    }

    #[test]
    fn counts_that_are_missing_leave_it_to_an_estimate() {
        for unusable in [
            json!({"input_tokens": 1}),
            json!({"output_tokens": 1}),
            json!(null),
            json!({"input_tokens": 1, "output_tokens": -1}),
        ] {
            assert_eq!(read(&unusable), None, "{unusable}");
        }
        assert_eq!(
            find(br#"{"text":"\"usage\":{","usage":{"input_tokens":3,"output_tokens":4.0}"#).and_then(|u| u.total()),
            Some(7)
        );
    }

    #[test]
    fn later_counts_replace_earlier_ones_and_null_says_nothing() {
        let start = json!({"input_tokens": 10, "output_tokens": 1, "cache_read_input_tokens": 7});
        let all = merged(start.clone(), &json!({"output_tokens": 20, "input_tokens": null}));
        assert_eq!(all, json!({"input_tokens": 10, "output_tokens": 20, "cache_read_input_tokens": 7}));
        assert_eq!(merged(start.clone(), &Value::Null), start);
    }
}
