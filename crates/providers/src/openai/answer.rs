//! What is read of a good answer, and the two ways in which it can be bad after all.

use std::borrow::Cow;

use bytes::Bytes;
use domain::Usage;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    client::{Reply, Unfit, name},
    error::CallError,
    target::Target,
    vectors::Vectors,
};

#[derive(Debug, Default)]
pub(super) struct Read {
    /// Of embeddings: the answer with a row number in each vector's place.
    pub envelope: Option<Bytes>,
    pub vectors: Option<Vectors>,
    pub usage: Option<Usage>,
    pub output_bytes: u64,
    pub choices: u32,
    pub model: Option<String>,
    pub service_tier: Option<String>,
    pub finish_reason: Option<String>,
}

#[derive(Debug)]
pub(super) enum Bad {
    /// It is not what was asked for.
    Unfit(Unfit),
    /// Its vectors are in no form of base64 that Tollway asked for.
    Encoding(Unfit),
    /// It says itself that it is an error.
    Said(CallError),
}

impl From<Unfit> for Bad {
    fn from(unfit: Unfit) -> Self {
        Self::Unfit(unfit)
    }
}

impl Bad {
    /// With the usage that `find` finds, where none is known.
    pub fn or_usage(self, find: impl Fn() -> Option<Usage>) -> Self {
        match self {
            Self::Unfit(unfit) if unfit.usage.is_none() => Self::Unfit(unfit.with_usage(find())),
            Self::Encoding(unfit) if unfit.usage.is_none() => Self::Encoding(unfit.with_usage(find())),
            bad => bad,
        }
    }

    pub fn into_error(self, reply: &Reply, target: &Target) -> CallError {
        reply.blame(match self {
            Self::Unfit(unfit) | Self::Encoding(unfit) => unfit.into_error(target),
            Self::Said(error) => error,
        })
    }
}

/// The body as text, if it can be a JSON object.
pub(super) fn object(body: &[u8]) -> Result<&str, Unfit> {
    let json = std::str::from_utf8(body).map_err(|_| Unfit::garbage("is not UTF-8"))?;
    match json.trim_ascii_start().bytes().next() {
        Some(b'{') => Ok(json),
        Some(_) => Err(Unfit::garbage("is no JSON object")),
        None => Err(Unfit::CUT),
    }
}

/// The text of a JSON string, as [`name`] bounds it; `None` for anything else.
pub(super) fn text(raw: Option<&RawValue>) -> Option<String> {
    name(Some(&serde_json::from_str::<Text<'_>>(raw?.get()).ok()?.0))
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
