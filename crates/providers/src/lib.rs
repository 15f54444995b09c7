//! All outbound HTTP to model providers. One small trait; one folder per provider; `client/` is what they share; one
//! conformance suite (`tests/conformance`) that every provider runs.
//!
//! A provider whose wire format is the caller's sends the caller's JSON with nothing changed but its model; any other translates the request
//! and the answer. Each reads what Tollway must know: usage, model, and whether the answer is whole. No error and no log line holds a
//! prompt or a credential.
#![expect(clippy::result_large_err, reason = "an error is as rare as it is informative, and an answer is larger still")]

mod anthropic;
mod call;
mod client;
mod credential;
mod error;
mod kind;
mod openai;
mod pool;
mod probe;
mod registry;
mod stream;
mod target;
mod vectors;

use async_trait::async_trait;

pub use call::{Answer, Call};
pub use credential::BadCredential;
pub use error::CallError;
pub use openai::wants_base64;
pub use pool::HttpClients;
pub use probe::list_models;
pub use registry::{provider, serves};
pub use reqwest::Url;
pub use stream::{AnswerStream, StreamEnd, StreamEvent};
pub use target::{BadTarget, Target, TargetFault};
pub use vectors::{Vectors, render_embeddings};

/// One provider's wire format. Both methods make one provider call and never retry or fall back: that is the engine's.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Sends `call` and waits for the whole answer.
    async fn call(&self, target: &Target, call: &Call<'_>) -> Result<Answer, CallError>;

    /// Sends `call`, whose body says `"stream": true`; resolves when the answer's head is in and says that events follow.
    async fn stream(&self, target: &Target, call: &Call<'_>) -> Result<AnswerStream, CallError>;
}
