//! Why a call cannot be taken.

use crate::json::{Flaw, Kind, Raw};

/// Characters of a caller's value that an error repeats.
const SHOWN: usize = 40;

/// What is wrong with a call's body. Prompts are not quoted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCall {
    #[error("not JSON: {0}")]
    Json(Flaw),
    #[error("it is {0}; it must be an object")]
    NotAnObject(Kind),
    #[error("missing field `{0}`")]
    Missing(&'static str),
    #[error("field `{0}` occurs twice; remove one")]
    Twice(&'static str),
    #[error("{name} is {got}; it must be {allowed}")]
    Value { name: &'static str, got: String, allowed: &'static str },
}

impl From<Flaw> for BadCall {
    fn from(flaw: Flaw) -> Self {
        Self::Json(flaw)
    }
}

impl BadCall {
    /// For a value that is short, and no part of a prompt.
    pub(crate) fn value(name: &'static str, got: &Raw<'_>, allowed: &'static str) -> Self {
        let got = match got.kind {
            Kind::Object | Kind::Array => got.kind.to_string(),
            _ if got.text.chars().count() > SHOWN => {
                format!("{}…", got.text.chars().take(SHOWN).collect::<String>())
            }
            _ => got.text.to_owned(),
        };
        Self::Value { name, got, allowed }
    }

    pub(crate) fn kind(name: &'static str, got: Kind, allowed: &'static str) -> Self {
        Self::Value { name, got: got.to_string(), allowed }
    }
}

pub const LONGEST_CUSTOM_ID: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    #[error("not a request line: {0}")]
    Json(String),
    #[error("the file is UTF-16; save it as UTF-8")]
    Utf16,
    #[error("the file is one JSON array; write one object a line, as `jq -c '.[]' FILE` does")]
    OneArray,
    #[error("the line is {0}; it must be an object {{\"custom_id\",\"method\",\"url\",\"body\"}}")]
    NotAnObject(Kind),
    #[error(
        "not a request line: {0}; if its object goes on in the next line, write each on one line, as `jq -c . FILE` does"
    )]
    Unfinished(Flaw),
    #[error("custom_id is empty or longer than {LONGEST_CUSTOM_ID} bytes")]
    CustomId,
    #[error("method is {0:?}; only \"POST\" is taken")]
    Method(String),
    #[error("url is {0:?}; only \"/v1/chat/completions\" and \"/v1/embeddings\" are taken")]
    Url(String),
    #[error("not a request line: {0}")]
    Member(BadCall),
    #[error("not a request line: unknown field {0:?}; there are `custom_id`, `method`, `url`, `body`")]
    Unknown(String),
    #[error("body is {0}; it must be an object{advice}", advice = as_object(*.0))]
    BodyKind(Kind),
    #[error("body: {0}")]
    Body(BadCall),
    #[error("a line of a job cannot be streamed; leave \"stream\" out")]
    Stream,
    #[error("the line has {bytes} bytes; at most {limit} are taken, as [server] max_body_mb says")]
    TooLong { bytes: usize, limit: usize },
}

fn as_object(kind: Kind) -> &'static str {
    if kind == Kind::Text { "; write its JSON without the quotes around it" } else { "" }
}
