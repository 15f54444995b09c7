//! What every provider shares: connections, time limits, bodies, and what a refusal says.

mod body;
mod content_type;
mod found;
mod refusal;
mod retry_after;
mod said;
mod send;
mod send_marker;
pub(crate) mod sse;
mod status;
mod timeouts;

pub(crate) use body::{answer, broken};
pub(crate) use content_type::ContentType;
pub(crate) use found::{name, objects_named};
pub(crate) use refusal::{error_inside, is_explained, refused};
pub(crate) use send::{Post, Reply, post};
pub(crate) use status::class_of;
pub(crate) use timeouts::CallTimer;

use std::borrow::Cow;

use domain::{ErrorClass, Usage};

use crate::{error::CallError, target::Target};

/// What is wrong with an answer that came with a good status.
#[derive(Debug)]
pub(crate) struct Unfit {
    pub class: ErrorClass,
    /// Completes "the answer of deployment d …".
    pub what: Cow<'static, str>,
    /// Tokens it reports all the same.
    pub usage: Option<Usage>,
}

impl Unfit {
    pub const CUT: Self =
        Self { class: ErrorClass::Cut, what: Cow::Borrowed("ended before it was whole"), usage: None };

    pub fn new(class: ErrorClass, what: impl Into<Cow<'static, str>>) -> Self {
        Self { class, what: what.into(), usage: None }
    }

    pub fn garbage(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorClass::Garbage, what)
    }

    /// Of an event or an answer, by the deployment's setting `field`.
    pub fn too_large(whole: &str, limit: usize, field: &str) -> Self {
        let what =
            format!("{whole} of more than {} MiB, Tollway's limit for it ({field} of the deployment)", limit >> 20);
        Self::new(ErrorClass::TooLarge, what)
    }

    /// JSON that ends too early was cut; any other fault of it is the provider's doing.
    pub fn json(error: &serde_json::Error, what: &'static str) -> Self {
        match error.is_eof() {
            true => Self::CUT,
            false => Self::garbage(what),
        }
    }

    pub fn with_usage(self, usage: Option<Usage>) -> Self {
        Self { usage, ..self }
    }

    pub fn into_error(self, target: &Target) -> CallError {
        let mut error = CallError::new(self.class, format!("the answer of deployment {} {}", target.name, self.what));
        error.usage = self.usage;
        error
    }
}
