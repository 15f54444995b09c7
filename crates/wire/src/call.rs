//! A call, read once.

use std::borrow::Cow;

use domain::Endpoint;

use crate::{
    bad::BadCall,
    json::{Kind, Scanner},
    layout::Layout,
    media::Input,
    openai::{self, BodyScan},
    output::Output,
};

/// How a call is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    OpenAi,
}

/// What Tollway needs to know of a call before it is made. The body itself stays as it came; everything that is not read goes to the
/// provider untouched.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    pub endpoint: Endpoint,
    pub format: Format,
    /// The route's name, as the caller wrote it.
    pub model: Cow<'a, str>,
    pub output: Output,
    pub stream: bool,
    pub input: Input,
    /// Where the body is edited on its way out.
    pub layout: Layout,
}

impl<'a> Call<'a> {
    /// Reads `body` and refuses what no provider would take.
    pub fn parse(endpoint: Endpoint, body: &'a str) -> Result<Self, BadCall> {
        let mut scanner = Scanner::new(body);
        let found = openai::scan(endpoint, &mut scanner)?;
        scanner.finish()?;
        Self::of(endpoint, found, body.len())
    }

    /// `bytes`: of the body.
    pub(crate) fn of(endpoint: Endpoint, found: BodyScan<'a>, bytes: usize) -> Result<Self, BadCall> {
        if let Some(fault) = found.fault {
            return Err(fault);
        }
        let model = found.model.ok_or(BadCall::Missing("model"))?;
        let name = match model.kind {
            Kind::Text => read_name(model.text).filter(|name| !name.is_empty()),
            _ => None,
        };
        let model = name.ok_or_else(|| BadCall::value("model", &model, "the name of a model"))?;
        match endpoint {
            Endpoint::ChatCompletions if !found.has_prompt => return Err(BadCall::Missing("messages")),
            Endpoint::Embeddings if !found.has_prompt => return Err(BadCall::Missing("input")),
            _ => {}
        }
        let output = match endpoint {
            Endpoint::ChatCompletions => found.output,
            Endpoint::Embeddings => Output::NONE,
        };
        let input = Input { text_bytes: bytes.saturating_sub(found.not_text), ..found.input };
        Ok(Self { endpoint, format: Format::OpenAi, model, output, stream: found.stream, input, layout: found.layout })
    }
}

/// The string in a JSON string.
fn read_name(quoted: &str) -> Option<Cow<'_, str>> {
    let raw = quoted.strip_prefix('"')?.strip_suffix('"')?;
    crate::json::Text { raw, is_escaped: raw.contains('\\') }.read()
}
