//! How much a model wrote: what usage is estimated by when the provider does not report it.

use std::{borrow::Cow, collections::HashMap};

use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Output<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning_content: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ToolCall<'a> {
    #[serde(borrow, default)]
    function: Option<Function<'a>>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

/// Of a choice's `message` or `delta`: bytes of UTF-8 without their JSON.
pub(super) fn output_bytes(output: &RawValue) -> u64 {
    let Ok(output) = serde_json::from_str::<Output<'_>>(output.get()) else {
        return 0;
    };
    let calls: Vec<ToolCall<'_>> =
        output.tool_calls.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    let of_calls = calls.iter().filter_map(|call| call.function.as_ref()).flat_map(|f| [f.name, f.arguments]);
    [output.content, output.reasoning_content, output.reasoning, output.refusal]
        .into_iter()
        .chain(of_calls)
        .map(text_bytes)
        .sum()
}

/// Whether a `delta` holds any part of an answer: a member besides the role that is not empty. The members are not listed, for a
/// provider's own (images, audio, citations) are answers too.
pub(super) fn has_output(delta: &RawValue) -> bool {
    let members: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_str(delta.get()).unwrap_or_default();
    let is_empty = |raw: &RawValue| matches!(raw.get(), "null" | "\"\"" | "[]" | "{}");
    members.iter().any(|(name, value)| name != "role" && !is_empty(value))
}

/// The length of a JSON string's text.
fn text_bytes(raw: Option<&RawValue>) -> u64 {
    let Some(json) = raw.map(RawValue::get) else {
        return 0;
    };
    if json.starts_with('"') && !json.contains('\\') {
        return json.len() as u64 - 2;
    }
    serde_json::from_str::<String>(json).map_or(0, |text| text.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_output_is_counted() {
        let output = |delta: &str| output_bytes(serde_json::from_str(delta).unwrap());
        assert_eq!(output(r#"{"content":"abc","reasoning_content":"de","refusal":null}"#), 5);
        assert_eq!(output(r#"{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{\"a\":1}"}}]}"#), 8);
        assert_eq!(output(r#"{"content":[{"text":"not ours to count"}]}"#), 0);
        assert_eq!(output("7"), 0);
    }
}
