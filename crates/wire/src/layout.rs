//! Where a body is edited on its way out: the model's value is replaced, a member may be added, and every other byte stays.

use std::ops::Range;

/// Bytes of a body, and what stands in their place.
pub type Edit<'e> = (Range<usize>, &'e str);

/// Places in a body, as byte ranges from its first byte.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layout {
    /// Behind the opening brace.
    pub(crate) inside: usize,
    /// Values of the member `model`. Which of equal keys counts is the provider's choice, so all of them are replaced.
    pub(crate) model: Option<Range<usize>>,
    pub(crate) more_models: Vec<Range<usize>>,
    pub(crate) encoding: Encoding,
    pub(crate) usage: UsageOption,
    /// How many embeddings are asked for; `None`: the body does not tell.
    pub inputs: Option<usize>,
    /// Of each embedding, where the body says so.
    pub dimensions: Option<usize>,
}

/// What the body says of `encoding_format`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Encoding {
    #[default]
    Absent,
    Null(Range<usize>),
    /// Where its value stands.
    Base64(Range<usize>),
    Other,
}

/// What the body says of `stream_options.include_usage`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum UsageOption {
    #[default]
    Absent,
    Null(Range<usize>),
    /// The options are there without it: behind their opening brace, and whether anything else stands in them.
    Without {
        inside: usize,
        is_empty: bool,
    },
    /// It is there, and is not `true`.
    Off(Range<usize>),
    On,
    /// The options are no object: the caller's mistake, for the provider to name.
    Strange,
}

impl Layout {
    pub fn has_model(&self) -> bool {
        self.model.is_some()
    }

    /// Puts another model's name, as JSON, in place of the caller's.
    pub fn set_model<'e>(&self, json: &'e str) -> impl Iterator<Item = Edit<'e>> {
        self.model.iter().chain(&self.more_models).map(move |place| (place.clone(), json))
    }

    /// Asks for embeddings in base64; `None`: the caller named a format.
    pub fn ask_base64(&self) -> Option<Edit<'static>> {
        match &self.encoding {
            Encoding::Absent => Some((self.inside..self.inside, "\"encoding_format\":\"base64\",")),
            Encoding::Null(place) => Some((place.clone(), "\"base64\"")),
            Encoding::Base64(_) | Encoding::Other => None,
        }
    }

    /// Whether the caller asked for embeddings in base64; OpenAI's SDKs do, raw HTTP gets floats.
    pub fn wants_base64(&self) -> bool {
        matches!(self.encoding, Encoding::Base64(_))
    }

    /// Leaves the caller's wish for base64 out of `body`, of which this is the layout; `None`: there is none.
    pub fn leave_out_base64(&self, body: &str) -> Option<Edit<'static>> {
        let Encoding::Base64(value) = &self.encoding else { return None };
        Some((member(body, value.clone())?, ""))
    }

    /// Asks for the usage of a stream; `None`: the caller did, or wrote what only the provider can judge.
    pub fn ask_usage(&self) -> Option<Edit<'static>> {
        match &self.usage {
            UsageOption::Absent => Some((self.inside..self.inside, "\"stream_options\":{\"include_usage\":true},")),
            UsageOption::Null(place) => Some((place.clone(), "{\"include_usage\":true}")),
            UsageOption::Without { inside, is_empty: true } => Some((*inside..*inside, "\"include_usage\":true")),
            UsageOption::Without { inside, is_empty: false } => Some((*inside..*inside, "\"include_usage\":true,")),
            UsageOption::Off(place) => Some((place.clone(), "true")),
            UsageOption::On | UsageOption::Strange => None,
        }
    }
}

/// The member whose value stands at `value`, with the comma that separates it from others.
fn member(body: &str, value: Range<usize>) -> Option<Range<usize>> {
    let before = body[..value.start].trim_end().strip_suffix(':')?.trim_end().strip_suffix('"')?;
    let key = before.rfind('"')?;
    let after = body[value.end..].trim_start();
    if after.starts_with(',') {
        return Some(key..body.len() - after.len() + 1);
    }
    let start = body[..key].trim_end().strip_suffix(',').map_or(key, str::len);
    Some(start..value.end)
}

/// `body` with each range replaced. The ranges do not overlap; their order does not matter.
pub fn splice(body: &str, mut edits: Vec<Edit<'_>>) -> Vec<u8> {
    edits.sort_by_key(|(place, _)| place.start);
    let more: usize = edits.iter().map(|(_, text)| text.len()).sum();
    let mut out = Vec::with_capacity(body.len() + more);
    let mut copied = 0;
    for (place, text) in edits {
        out.extend_from_slice(&body.as_bytes()[copied..place.start]);
        out.extend_from_slice(text.as_bytes());
        copied = place.end;
    }
    out.extend_from_slice(&body.as_bytes()[copied..]);
    out
}
