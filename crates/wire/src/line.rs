//! A line of a job: OpenAI's batch line, `{"custom_id","method","url","body"}`, read together with its body in one pass.

use std::borrow::Cow;

use domain::Endpoint;

use crate::{
    bad::{BadCall, BadLine, LONGEST_CUSTOM_ID},
    call::Call,
    json::{Flaw, Kind, Raw, Scanner},
    openai::{self, BodyScan},
    upload,
};

/// One line, checked as far as a line alone can be checked.
#[derive(Debug)]
pub struct RequestLine<'a> {
    pub custom_id: Cow<'a, str>,
    pub call: Call<'a>,
    /// The JSON object to send, as it was written.
    pub body: &'a str,
}

/// The members of a line as they are found.
#[derive(Default)]
struct Outer<'a> {
    custom_id: Option<Cow<'a, str>>,
    method: Option<Cow<'a, str>>,
    url: Option<Cow<'a, str>>,
    body: Option<Raw<'a>>,
    /// What the body says, where its endpoint was known when it came.
    found: Option<Result<BodyScan<'a>, BadCall>>,
    fault: Option<BadLine>,
}

impl<'a> RequestLine<'a> {
    pub fn parse(line: &'a [u8]) -> Result<Self, BadLine> {
        let text = std::str::from_utf8(line).map_err(|error| upload::not_text(line, error.valid_up_to()))?;
        let mut scanner = Scanner::new(text);
        let kind = scanner.kind().map_err(|flaw| upload::not_json(text, flaw))?;
        if kind != Kind::Object {
            return Err(match text.trim_ascii().strip_prefix('[') {
                Some(rest) => upload::array(rest),
                None if scanner.value().is_ok() && scanner.finish().is_ok() => BadLine::NotAnObject(kind),
                None => upload::not_json(text, scanner.finish().err().unwrap_or_else(|| scanner.flaw("no object"))),
            });
        }
        let mut outer = Outer::default();
        let read = scanner.members(|scanner, key| outer.member(scanner, &key.name(), text));
        read.and_then(|_| scanner.finish()).map_err(|flaw| upload::not_json(text, flaw))?;
        outer.check()
    }

    /// A hash of the custom id for telling duplicates apart; the caller keys it, so that nobody can aim for a collision.
    pub fn custom_id_bytes(&self) -> &[u8] {
        self.custom_id.as_bytes()
    }
}

impl<'a> Outer<'a> {
    fn member(&mut self, scanner: &mut Scanner<'a>, name: &str, line: &'a str) -> Result<(), Flaw> {
        let fault = match name {
            "custom_id" => text(scanner, "custom_id", &mut self.custom_id)?,
            "method" => text(scanner, "method", &mut self.method)?,
            "url" => text(scanner, "url", &mut self.url)?,
            "body" if self.body.is_some() => {
                scanner.value()?;
                Some(BadLine::Member(BadCall::Twice("body")))
            }
            "body" => {
                self.body(scanner, line)?;
                None
            }
            unknown => {
                scanner.value()?;
                Some(BadLine::Unknown(unknown.chars().take(64).collect()))
            }
        };
        if self.fault.is_none() {
            self.fault = fault;
        }
        Ok(())
    }

    /// Reads the body where it stands if its endpoint is known by now; else it is read at the end.
    fn body(&mut self, scanner: &mut Scanner<'a>, line: &'a str) -> Result<(), Flaw> {
        let (kind, start) = (scanner.kind()?, scanner.at());
        let endpoint = self.url.as_deref().and_then(endpoint_of);
        self.body = Some(match endpoint {
            Some(endpoint) if kind == Kind::Object => {
                let mut inner = Scanner::new(&line[start..]);
                match openai::scan(endpoint, &mut inner) {
                    Err(BadCall::Json(flaw)) => return Err(flaw.shifted(start)),
                    found => self.found = Some(found),
                }
                let end = start + inner.at();
                scanner.jump(end);
                Raw { kind, text: &line[start..end], span: start..end }
            }
            _ => scanner.value()?,
        });
        Ok(())
    }

    fn check(self) -> Result<RequestLine<'a>, BadLine> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let missing = |name| BadLine::Member(BadCall::Missing(name));
        let custom_id = self.custom_id.ok_or_else(|| missing("custom_id"))?;
        if custom_id.is_empty() || custom_id.len() > LONGEST_CUSTOM_ID {
            return Err(BadLine::CustomId);
        }
        let method = self.method.ok_or_else(|| missing("method"))?;
        if !method.eq_ignore_ascii_case("POST") {
            return Err(BadLine::Method(method.chars().take(32).collect()));
        }
        let url = self.url.ok_or_else(|| missing("url"))?;
        let endpoint = endpoint_of(&url).ok_or_else(|| BadLine::Url(url.chars().take(64).collect()))?;
        let body = self.body.ok_or_else(|| missing("body"))?;
        if body.kind != Kind::Object {
            return Err(BadLine::BodyKind(body.kind));
        }
        let found = self.found.unwrap_or_else(|| openai::scan(endpoint, &mut Scanner::new(body.text)));
        let call = found.and_then(|found| Call::of(endpoint, found, body.text.len())).map_err(BadLine::Body)?;
        if call.stream {
            return Err(BadLine::Stream);
        }
        Ok(RequestLine { custom_id, call, body: body.text })
    }
}

/// A member of the line whose value is a string.
fn text<'a>(
    scanner: &mut Scanner<'a>,
    name: &'static str,
    into: &mut Option<Cow<'a, str>>,
) -> Result<Option<BadLine>, Flaw> {
    if into.is_some() {
        scanner.value()?;
        return Ok(Some(BadLine::Member(BadCall::Twice(name))));
    }
    let kind = scanner.kind()?;
    if kind != Kind::Text {
        scanner.value()?;
        return Ok(Some(BadLine::Member(BadCall::kind(name, kind, "a string"))));
    }
    *into = scanner.string()?.read();
    let is_text = into.is_some();
    Ok((!is_text).then(|| BadLine::Member(BadCall::kind(name, Kind::Text, "Unicode text"))))
}

/// The endpoint that a URL obviously names: with or without a host, `/v1` or Azure's path before it, a query or a slash behind it.
pub fn endpoint_of(url: &str) -> Option<Endpoint> {
    let path = url.split(['?', '#']).next().unwrap_or_default().trim_ascii().trim_end_matches('/');
    if let Some(endpoint) = Endpoint::from_url(path) {
        return Some(endpoint);
    }
    let path = match path.split_once("://") {
        Some(("http" | "https", rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        Some(_) => return None,
        None => path.trim_start_matches('/'),
    };
    let endpoints = [Endpoint::ChatCompletions, Endpoint::Embeddings];
    endpoints.into_iter().find(|endpoint| {
        let name = endpoint.path().trim_start_matches('/');
        path.strip_suffix(name).is_some_and(|before| before.is_empty() || is_prefix(before))
    })
}

/// Whether an API is served under this path, which ends with a slash: `v1/`, `openai/deployments/NAME/`, `v1beta/openai/`.
fn is_prefix(path: &str) -> bool {
    let mut parts = path.split('/').rev();
    // Behind the last slash.
    if parts.next() != Some("") {
        return false;
    }
    let parts: Vec<&str> = parts.collect();
    match parts.as_slice() {
        [_, "deployments", rest @ ..] => rest.first().is_none_or(|part| *part == "openai"),
        [last, ..] => *last == "openai" || last.starts_with('v') && last[1..].starts_with(|c: char| c.is_ascii_digit()),
        [] => true,
    }
}
