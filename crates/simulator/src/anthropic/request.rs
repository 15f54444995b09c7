//! The request, read only as far as the answer needs it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::rng::fingerprint;
use crate::wire::refusal::Refusal;

#[derive(Deserialize)]
pub struct MessagesRequest<'a> {
    #[serde(borrow)]
    pub model: Cow<'a, str>,
    #[serde(borrow)]
    messages: &'a RawValue,
    max_tokens: u64,
    stream: Option<bool>,
    temperature: Option<f64>,
    #[serde(default)]
    tools: Vec<Tool>,
    tool_choice: Option<ToolChoice>,
    output_config: Option<OutputConfig>,
}

#[derive(Deserialize)]
pub struct Tool {
    pub name: String,
    pub input_schema: Value,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ToolChoice {
    Auto,
    Any,
    None,
    Tool { name: String },
}

#[derive(Deserialize)]
struct OutputConfig {
    format: Option<Format>,
}

#[derive(Deserialize)]
struct Format {
    schema: Value,
}

#[derive(Deserialize)]
struct Turn {
    role: String,
    content: Value,
}

impl<'a> MessagesRequest<'a> {
    pub fn parse(body: &'a [u8]) -> Result<Self, Refusal> {
        let request: Self = serde_json::from_slice(body).map_err(|e| Refusal::bad_body(&e))?;
        if request.max_tokens == 0 {
            return Err(Refusal::bad_field("max_tokens", "must be at least 1"));
        }
        if request.temperature.is_some_and(|temperature| !(0.0..=1.0).contains(&temperature)) {
            return Err(Refusal::bad_field("temperature", "must be from 0 to 1"));
        }
        let turns = request.turns()?;
        let is_good = |turn: &Turn| matches!(turn.role.as_str(), "user" | "assistant") && !is_empty(&turn.content);
        if turns.is_empty() || !turns.iter().all(is_good) {
            return Err(Refusal::bad_field("messages", "must be turns of user and assistant, none of them empty"));
        }
        if matches!(&request.tool_choice, Some(ToolChoice::Tool { name }) if request.tool(name).is_none()) {
            return Err(Refusal::bad_field("tool_choice", "must name one of the tools"));
        }
        Ok(request)
    }

    pub fn is_streamed(&self) -> bool {
        self.stream == Some(true)
    }

    pub fn max_tokens(&self) -> u64 {
        self.max_tokens
    }

    /// Of the text of `messages`, as it stands in the body.
    pub fn print(&self) -> u64 {
        fingerprint(self.messages.get().as_bytes())
    }

    /// The schema that the answer's text keeps to.
    pub fn schema(&self) -> Option<&Value> {
        Some(&self.output_config.as_ref()?.format.as_ref()?.schema)
    }

    /// The tool that the answer uses: the one that is named, else the first, unless a tool's result is what it answers.
    pub fn tool_to_use(&self) -> Option<&Tool> {
        match &self.tool_choice {
            Some(ToolChoice::None) => None,
            Some(ToolChoice::Tool { name }) => self.tool(name),
            Some(ToolChoice::Any) => self.tools.first(),
            Some(ToolChoice::Auto) | None => self.tools.first().filter(|_| !self.ends_with_a_result()),
        }
    }

    fn tool(&self, name: &str) -> Option<&Tool> {
        self.tools.iter().find(|tool| tool.name == name)
    }

    fn ends_with_a_result(&self) -> bool {
        let turns = self.turns().unwrap_or_default();
        let blocks = turns.last().and_then(|turn| turn.content.as_array());
        blocks.is_some_and(|blocks| blocks.iter().any(|block| block["type"] == "tool_result"))
    }

    fn turns(&self) -> Result<Vec<Turn>, Refusal> {
        serde_json::from_str(self.messages.get()).map_err(|e| Refusal::bad_body(&e))
    }
}

/// A text or an array of blocks with nothing in it, or a block of text with none.
fn is_empty(content: &Value) -> bool {
    match content {
        Value::String(text) => text.is_empty(),
        Value::Array(blocks) => blocks.is_empty() || blocks.iter().any(|block| block["text"] == ""),
        _ => true,
    }
}
