//! What a chat request asks for beyond a text.

use serde::Deserialize;
use serde_json::{Value, json};

/// OpenAI's own limit of choices.
const MAX_CHOICES: usize = 128;
const MAX_TOP_LOGPROBS: usize = 20;

/// Left out of a request, all of them, in nearly all.
#[derive(Deserialize)]
pub struct Shape {
    #[serde(default)]
    messages: Vec<Message>,
    n: Option<usize>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    response_format: Option<Value>,
    logprobs: Option<bool>,
    top_logprobs: Option<usize>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    role: String,
}

pub struct Tool {
    pub name: String,
    pub parameters: Value,
}

#[derive(Debug, PartialEq)]
pub enum ToolChoice {
    Auto,
    Required,
    None,
    Named(String),
}

pub enum Format {
    Text,
    Object,
    Schema(Value),
}

impl Shape {
    /// Says which member is wrong, and what is allowed.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        if !(1..=MAX_CHOICES).contains(&self.choices()) {
            return Err(("n", "must be from 1 to 128"));
        }
        if self.top_logprobs.unwrap_or(0) > MAX_TOP_LOGPROBS {
            return Err(("top_logprobs", "must be from 0 to 20"));
        }
        if self.top_logprobs.is_some() && self.logprobs != Some(true) {
            return Err(("top_logprobs", "needs logprobs to be true"));
        }
        let named = match self.tool_choice() {
            ToolChoice::Named(name) => Some(name),
            _ => None,
        };
        if named.is_some_and(|name| self.tools().all(|tool| tool.name != name)) {
            return Err(("tool_choice", "must name one of the tools"));
        }
        Ok(())
    }

    pub fn choices(&self) -> usize {
        self.n.unwrap_or(1)
    }

    pub fn top_logprobs(&self) -> Option<usize> {
        (self.logprobs == Some(true)).then(|| self.top_logprobs.unwrap_or(0))
    }

    pub fn tool_choice(&self) -> ToolChoice {
        match &self.tool_choice {
            Some(Value::String(word)) if word == "none" => ToolChoice::None,
            Some(Value::String(word)) if word == "required" => ToolChoice::Required,
            Some(named) => match named.pointer("/function/name").and_then(Value::as_str) {
                Some(name) => ToolChoice::Named(name.to_owned()),
                None => ToolChoice::Auto,
            },
            None => ToolChoice::Auto,
        }
    }

    /// The tool that the answer calls: the one that is named, else the first, unless a tool's result is what it answers.
    pub fn tool_to_call(&self) -> Option<Tool> {
        match self.tool_choice() {
            ToolChoice::None => None,
            ToolChoice::Named(name) => self.tools().find(|tool| tool.name == name),
            ToolChoice::Required => self.tools().next(),
            ToolChoice::Auto if self.messages.last().is_some_and(|last| last.role == "tool") => None,
            ToolChoice::Auto => self.tools().next(),
        }
    }

    fn tools(&self) -> impl Iterator<Item = Tool> + '_ {
        self.tools.iter().flatten().filter_map(|tool| {
            let function = tool.get("function")?;
            let name = function.get("name")?.as_str()?.to_owned();
            let parameters = function.get("parameters").cloned().unwrap_or_else(|| json!({"type": "object"}));
            Some(Tool { name, parameters })
        })
    }

    pub fn format(&self) -> Format {
        let format = self.response_format.as_ref();
        match format.and_then(|format| format.get("type")).and_then(Value::as_str) {
            Some("json_object") => Format::Object,
            Some("json_schema") => {
                let schema = format.and_then(|format| format.pointer("/json_schema/schema"));
                Format::Schema(schema.cloned().unwrap_or_else(|| json!({"type": "object"})))
            }
            _ => Format::Text,
        }
    }
}
