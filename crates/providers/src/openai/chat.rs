//! A chat completion, read without copying it.

use bytes::Bytes;
use domain::{Endpoint, ErrorClass};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    answer::{Bad, Read, object, text},
    output::output_bytes,
    usage,
};
use crate::{
    client::{Unfit, error_inside},
    target::Target,
};

#[derive(Deserialize)]
struct Wire<'a> {
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
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    finish_reason: Option<&'a RawValue>,
}

/// Metering, and the proof that the answer is whole: every choice says why it ended.
pub(super) fn read(body: &Bytes, target: &Target) -> Result<Read, Bad> {
    let json = object(body)?;
    let wire: Wire<'_> =
        serde_json::from_str(json).map_err(|e| Unfit::json(&e, "is not the JSON of a chat completion"))?;
    let usage = usage::read(wire.usage, Endpoint::ChatCompletions);
    if let Some(error) = wire.error {
        let mut said = error_inside(error, body.clone(), target);
        said.usage = usage;
        return Err(Bad::Said(said));
    }
    let choices = wire.choices.unwrap_or_default();
    let Some(first) = choices.first() else {
        return Err(Unfit::garbage("has no choices").with_usage(usage).into());
    };
    for choice in &choices {
        match choice.finish_reason.map(RawValue::get) {
            // OpenRouter's way to say that the model behind it failed.
            Some("\"error\"") => {
                let unfit = Unfit::new(ErrorClass::ServerError, "says that the model failed");
                return Err(unfit.with_usage(usage).into());
            }
            Some(reason) if reason.len() > 2 && reason.starts_with('"') => {}
            _ => return Err(Unfit::garbage("has a choice without a finish reason").with_usage(usage).into()),
        }
    }
    let messages = choices.iter().filter_map(|choice| choice.message);
    Ok(Read {
        usage,
        output_bytes: messages.map(output_bytes).sum(),
        choices: u32::try_from(choices.len()).unwrap_or(u32::MAX),
        model: text(wire.model),
        service_tier: text(wire.service_tier),
        finish_reason: text(first.finish_reason),
        ..Read::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::tests::deployment;

    fn check(body: &str, expected: Result<&str, ErrorClass>) {
        let target = Target::resolve("d", &deployment("http://x")).unwrap();
        let got = match read(&Bytes::copy_from_slice(body.as_bytes()), &target) {
            Ok(read) => Ok(read.finish_reason.unwrap()),
            Err(Bad::Unfit(unfit) | Bad::Encoding(unfit)) => Err(unfit.class),
            Err(Bad::Said(error)) => Err(error.class),
        };
        assert_eq!(got.as_deref().map_err(|class| *class), expected, "{body}");
    }

    #[test]
    fn an_answer_is_good_only_when_every_choice_is_finished() {
        check(r#"{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}],"error":null}"#, Ok("stop"));
        check(r#"{"choices":[{"finish_reason":"length"},{"finish_reason":null}]}"#, Err(ErrorClass::Garbage));
        check(r#"{"choices":[{"finish_reason":""}]}"#, Err(ErrorClass::Garbage));
        check(r#"{"choices":[]}"#, Err(ErrorClass::Garbage));
        check(r#"{"choices":{}}"#, Err(ErrorClass::Garbage));
        check(r#"{"id":"x"}"#, Err(ErrorClass::Garbage));
        check("hello", Err(ErrorClass::Garbage));
        check("", Err(ErrorClass::Cut));
        check(r#"{"choices":[{"finish_reason":"sto"#, Err(ErrorClass::Cut));
        check(r#"{"choices":[{"finish_reason":"error"}]}"#, Err(ErrorClass::ServerError));
        check(r#"{"error":{"type":"overloaded_error"}}"#, Err(ErrorClass::Overloaded));
    }

    #[test]
    fn what_is_not_metered_can_be_estimated() {
        let target = Target::resolve("d", &deployment("http://x")).unwrap();
        let body = br#"{"choices":[{"message":{"content":"four"},"finish_reason":"stop"}],"usage":null}"#;
        let read = read(&Bytes::from_static(body), &target).unwrap();
        assert_eq!((read.usage, read.output_bytes), (None, 4));
    }

    #[test]
    fn a_failed_answer_still_says_what_it_used() {
        let target = Target::resolve("d", &deployment("http://x")).unwrap();
        let body = br#"{"choices":[{"finish_reason":null}],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
        let Err(Bad::Unfit(unfit)) = read(&Bytes::from_static(body), &target) else {
            panic!("an unfinished choice was taken");
        };
        assert_eq!(unfit.usage.and_then(|usage| usage.output_total()), Some(4));
    }
}
