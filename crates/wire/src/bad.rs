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
