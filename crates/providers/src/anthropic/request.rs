//! The request for a chat completion as a request for a message.

use bytes::Bytes;
use domain::ErrorClass;
use serde_json::{Map, Value, json};

use super::{
    error::untranslatable,
    fields::{Fields, NO_COUNTERPART, Untranslatable, cannot},
    maximum, tools, turns,
};
use crate::{error::CallError, target::Target};

#[derive(Debug)]
pub(super) struct Outgoing {
    pub body: Bytes,
    /// The caller asked for usage at the end of the stream.
    pub wants_usage: bool,
}

pub(super) fn outgoing(body: &str, target: &Target) -> Result<Outgoing, CallError> {
    // The place of a fault only: serde's words may quote the body.
    let value: Value = serde_json::from_str(body).map_err(|e| {
        let place = format!("line {} column {}", e.line(), e.column());
        CallError::new(ErrorClass::InvalidRequest, format!("the body is no JSON object, see {place}; it was not sent"))
    })?;
    let (request, wants_usage) = translated(value, target).map_err(|cause| untranslatable(&cause, target))?;
    Ok(Outgoing { body: request.to_string().into(), wants_usage })
}

fn translated(value: Value, target: &Target) -> Result<(Value, bool), Untranslatable> {
    let mut fields = Fields::of("", value)?;
    let mut out = Map::new();
    if fields.take("model").is_none() {
        return cannot("model", "is missing");
    }
    out.insert("model".into(), Value::from(&*target.model));
    out.insert("max_tokens".into(), max_tokens(&mut fields, target)?.into());
    let turns = turns::translated(fields.list("messages")?)?;
    if !turns.system.is_empty() {
        out.insert("system".into(), turns.system.into());
    }
    out.insert("messages".into(), turns.messages.into());
    sampling(&mut fields, &mut out)?;
    stops(&mut fields, &mut out)?;
    tools::translated(&mut fields, &mut out)?;
    output_config(&mut fields, &mut out)?;
    let wants_usage = stream(&mut fields, &mut out)?;
    account(&mut fields, &mut out)?;
    for (name, value) in [
        ("n", json!(1)),
        ("frequency_penalty", json!(0)),
        ("presence_penalty", json!(0)),
        ("logprobs", json!(false)),
        ("logit_bias", json!({})),
        ("store", json!(false)),
        ("modalities", json!(["text"])),
    ] {
        fields.only(name, &value)?;
    }
    fields.end()?;
    Ok((out.into(), wants_usage))
}

/// The maximum that the request names, else the model's.
fn max_tokens(fields: &mut Fields, target: &Target) -> Result<u64, Untranslatable> {
    let (newer, older) = (fields.positive("max_completion_tokens")?, fields.positive("max_tokens")?);
    match newer.or(older).or_else(|| maximum::of_request_without(target)) {
        Some(most) => Ok(most),
        None => cannot(
            "max_tokens",
            format!(
                "is required, for the maximum of the model {} is not known; set it in the request, or have max_output_tokens set for \
                 the deployment",
                target.model
            ),
        ),
    }
}

fn sampling(fields: &mut Fields, out: &mut Map<String, Value>) -> Result<(), Untranslatable> {
    // OpenAI's scale ends at 2, Anthropic's at 1, where both are most random.
    if let Some(temperature) = number(fields, "temperature", 2.0)? {
        let is_above = temperature.as_f64() > Some(1.0);
        out.insert("temperature".into(), if is_above { json!(1) } else { temperature });
    }
    if let Some(top_p) = number(fields, "top_p", 1.0)? {
        out.insert("top_p".into(), top_p);
    }
    Ok(())
}

fn number(fields: &mut Fields, name: &str, most: f64) -> Result<Option<Value>, Untranslatable> {
    let value = fields.take(name);
    match &value {
        Some(value) if !value.as_f64().is_some_and(|number| (0.0..=most).contains(&number)) => {
            cannot(fields.path(name), format!("must be a number from 0 to {most}"))
        }
        _ => Ok(value),
    }
}

fn stops(fields: &mut Fields, out: &mut Map<String, Value>) -> Result<(), Untranslatable> {
    let stops = match fields.take("stop") {
        None => return Ok(()),
        Some(Value::String(stop)) => vec![stop],
        Some(list) => match serde_json::from_value::<Vec<String>>(list) {
            Ok(stops) => stops,
            Err(_) => return cannot("stop", "must be a string or an array of strings"),
        },
    };
    if stops.iter().any(|stop| stop.trim().is_empty()) {
        return cannot("stop", "must hold more than white space in each sequence; the Messages API refuses others");
    }
    if !stops.is_empty() {
        out.insert("stop_sequences".into(), stops.into());
    }
    Ok(())
}

/// How much the model thinks, and the schema that its answer keeps to.
fn output_config(fields: &mut Fields, out: &mut Map<String, Value>) -> Result<(), Untranslatable> {
    let mut config = Map::new();
    match fields.text("reasoning_effort")? {
        None => {}
        Some(effort) if ["low", "medium", "high", "xhigh"].contains(&effort.as_str()) => {
            config.insert("effort".into(), effort.into());
        }
        Some(_) => {
            return cannot("reasoning_effort", format!("{NO_COUNTERPART} other than low, medium, high and xhigh"));
        }
    }
    if let Some(format) = fields.take("response_format")
        && let Some(schema) = schema(Fields::of("response_format", format)?)?
    {
        config.insert("format".into(), json!({"type": "json_schema", "schema": schema}));
    }
    if !config.is_empty() {
        out.insert("output_config".into(), config.into());
    }
    Ok(())
}

/// `None`: any text will do.
fn schema(mut format: Fields) -> Result<Option<Value>, Untranslatable> {
    match format.text("type")?.as_deref() {
        Some("text") => format.end().map(|()| None),
        Some("json_schema") => {
            let mut wrapped =
                Fields::of("response_format.json_schema", format.take("json_schema").unwrap_or_default())?;
            format.end()?;
            let Some(schema) = wrapped.take("schema") else { return cannot(wrapped.path("schema"), "is missing") };
            // Anthropic keeps to the schema in any case, and knows no name for it.
            for harmless in ["name", "strict", "description"] {
                wrapped.take(harmless);
            }
            wrapped.end()?;
            Ok(Some(schema))
        }
        _ => cannot("response_format.type", format!("{NO_COUNTERPART} other than text and json_schema")),
    }
}

/// Whether the caller asked for usage.
fn stream(fields: &mut Fields, out: &mut Map<String, Value>) -> Result<bool, Untranslatable> {
    if fields.flag("stream")? == Some(true) {
        out.insert("stream".into(), true.into());
    }
    let Some(options) = fields.take("stream_options") else { return Ok(false) };
    let mut options = Fields::of("stream_options", options)?;
    let wants_usage = options.flag("include_usage")?.unwrap_or(false);
    // Padding against eavesdroppers; Anthropic has none to switch off.
    options.take("include_obfuscation");
    options.end()?;
    Ok(wants_usage)
}

/// What concerns the provider's account, not the answer.
fn account(fields: &mut Fields, out: &mut Map<String, Value>) -> Result<(), Untranslatable> {
    let (newer, older) = (fields.text("safety_identifier")?, fields.text("user")?);
    if let Some(user) = newer.or(older) {
        out.insert("metadata".into(), json!({"user_id": user}));
    }
    match fields.text("service_tier")?.as_deref() {
        None | Some("auto") => {}
        Some("default") => {
            out.insert("service_tier".into(), "standard_only".into());
        }
        Some(_) => return cannot("service_tier", format!("{NO_COUNTERPART} other than auto and default")),
    }
    // Labels in OpenAI's own pages, and hints for its cache.
    for harmless in ["metadata", "prompt_cache_key", "prompt_cache_retention"] {
        fields.take(harmless);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
