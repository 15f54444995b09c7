//! OpenAI's bodies: one pass over the members that concern Tollway. `chat` and `embeddings` read what only they have.

mod chat;
mod embeddings;

use domain::Endpoint;

use crate::{
    bad::BadCall,
    json::{Flaw, Kind, Raw, Scanner},
    layout::{Encoding, Layout, UsageOption},
    media::Input,
    output::{MAX_CHOICES, MAX_OUTPUT, Output},
};

/// The names by which servers know the most tokens of an answer.
const MAXIMA: [&str; 5] =
    ["max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens", "max_tokens_to_sample"];
const CHOICES: [&str; 2] = ["n", "best_of"];

/// What one pass over a body found.
pub(crate) struct BodyScan<'a> {
    pub model: Option<Raw<'a>>,
    pub output: Output,
    pub stream: bool,
    pub input: Input,
    /// Bytes that do not count as text.
    pub not_text: usize,
    /// There are messages, or an input.
    pub has_prompt: bool,
    pub layout: Layout,
    /// The first value that no provider would take. The rest was read all the same, for a body that was taken before.
    pub fault: Option<BadCall>,
    /// Of the members that are read, those that were seen.
    seen: Vec<&'static str>,
}

impl BodyScan<'_> {
    pub fn fault(&mut self, fault: BadCall) {
        self.fault.get_or_insert(fault);
    }

    fn sees(&mut self, name: &'static str) {
        if self.seen.contains(&name) {
            self.fault(BadCall::Twice(name));
        } else {
            self.seen.push(name);
        }
    }
}

/// Reads the object that comes next in `scanner`, whose text begins with it.
pub(crate) fn scan<'a>(endpoint: Endpoint, scanner: &mut Scanner<'a>) -> Result<BodyScan<'a>, BadCall> {
    let kind = scanner.kind()?;
    if kind != Kind::Object {
        scanner.value()?;
        return Err(BadCall::NotAnObject(kind));
    }
    let inside = scanner.at() + 1;
    let mut found = BodyScan {
        model: None,
        output: Output { max: None, choices: 1 },
        stream: false,
        input: Input::default(),
        not_text: 0,
        has_prompt: false,
        layout: Layout { inside, ..Layout::default() },
        fault: None,
        seen: Vec::new(),
    };
    scanner.members(|scanner, key| member(endpoint, scanner, &key.name(), &mut found))?;
    Ok(found)
}

fn member<'a>(endpoint: Endpoint, scanner: &mut Scanner<'a>, name: &str, found: &mut BodyScan<'a>) -> Result<(), Flaw> {
    let is_chat = endpoint == Endpoint::ChatCompletions;
    match name {
        "model" => model(scanner.value()?, found),
        "messages" if is_chat => {
            found.sees("messages");
            chat::messages(scanner, found)?;
        }
        "input" if !is_chat => {
            found.sees("input");
            embeddings::input(scanner, found)?;
        }
        "stream" => stream(&scanner.value()?, found),
        "stream_options" => found.layout.usage = stream_options(scanner)?,
        "encoding_format" => found.layout.encoding = encoding(scanner.value()?),
        "dimensions" => found.layout.dimensions = scanner.value()?.text.parse().ok(),
        _ if is_chat => {
            let value = scanner.value()?;
            if let Some(name) = MAXIMA.iter().find(|known| **known == name) {
                maximum(name, &value, found);
            } else if let Some(name) = CHOICES.iter().find(|known| **known == name) {
                choices(name, &value, found);
            }
        }
        _ => {
            scanner.value()?;
        }
    }
    Ok(())
}

fn model<'a>(value: Raw<'a>, found: &mut BodyScan<'a>) {
    found.sees("model");
    match found.layout.model {
        None => found.layout.model = Some(value.span.clone()),
        Some(_) => found.layout.more_models.push(value.span.clone()),
    }
    found.model = Some(value);
}

fn stream(value: &Raw<'_>, found: &mut BodyScan<'_>) {
    found.sees("stream");
    match value.text {
        "true" => found.stream = true,
        "false" | "null" => found.stream = false,
        _ => found.fault(BadCall::value("stream", value, "true or false")),
    }
}

/// The largest counts, for servers differ in which of the names they honour.
fn maximum(name: &'static str, value: &Raw<'_>, found: &mut BodyScan<'_>) {
    found.sees(name);
    if value.kind == Kind::Null {
        return;
    }
    match whole(value, MAX_OUTPUT) {
        Some(most) => found.output.max = found.output.max.max(Some(most)),
        None => found.fault(BadCall::value(name, value, "a whole number from 1 to 2147483647")),
    }
}

/// Providers charge for all answers that they generate, also for those that `best_of` discards.
fn choices(name: &'static str, value: &Raw<'_>, found: &mut BodyScan<'_>) {
    found.sees(name);
    if value.kind == Kind::Null {
        return;
    }
    match whole(value, MAX_CHOICES) {
        Some(n) => found.output.choices = found.output.choices.max(n),
        None => found.fault(BadCall::value(name, value, "a whole number from 1 to 128")),
    }
}

/// A whole number from 1 to `most`, written without fraction and exponent.
fn whole(value: &Raw<'_>, most: i64) -> Option<i64> {
    value.text.parse().ok().filter(|number| (1..=most).contains(number) && value.kind == Kind::Number)
}

fn encoding(value: Raw<'_>) -> Encoding {
    match value.text {
        "null" => Encoding::Null(value.span),
        "\"base64\"" => Encoding::Base64(value.span),
        _ => Encoding::Other,
    }
}

fn stream_options(scanner: &mut Scanner<'_>) -> Result<UsageOption, Flaw> {
    match scanner.kind()? {
        Kind::Null => return Ok(UsageOption::Null(scanner.value()?.span)),
        Kind::Object => {}
        _ => return scanner.value().map(|_| UsageOption::Strange),
    }
    let inside = scanner.at() + 1;
    let mut include = None;
    let count = scanner.members(|scanner, key| {
        let value = scanner.value()?;
        if key.name() == "include_usage" {
            include = Some(value);
        }
        Ok(())
    })?;
    Ok(match include {
        Some(value) if value.text == "true" => UsageOption::On,
        Some(value) => UsageOption::Off(value.span),
        None => UsageOption::Without { inside, is_empty: count == 0 },
    })
}

impl Layout {
    /// The layout of a body that was taken before. Its values are not judged again.
    pub fn scan(endpoint: Endpoint, body: &str) -> Result<Self, BadCall> {
        let mut scanner = Scanner::new(body);
        let found = scan(endpoint, &mut scanner)?;
        scanner.finish()?;
        Ok(found.layout)
    }
}
