//! OpenAI's API, and all that speak it: chat completions and embeddings.

mod answer;
mod chat;
mod embeddings;
mod floats;
mod members;
mod output;
mod packed;
mod request;
mod stream;
mod usage;

use async_trait::async_trait;
use domain::{Endpoint, ErrorClass};
use tokio::time::Instant;

pub use request::wants_base64;

use crate::{
    Provider,
    call::{Answer, Call},
    client::{HttpClients, Post, Reply, Unfit, content_is, post, refused, whole},
    error::CallError,
    stream::AnswerStream,
    target::{Extra, Target},
};
use answer::Bad;
use request::Outgoing;

/// The largest answers taken, in bytes, unpacked.
const CHAT_CAP: usize = 8 << 20;
const EMBEDDINGS_CAP: usize = 64 << 20;

pub(crate) struct OpenAi {
    http: HttpClients,
}

#[async_trait]
impl Provider for OpenAi {
    async fn call(&self, target: &Target, call: &Call<'_>) -> Result<Answer, CallError> {
        let (extra, cap) = match call.endpoint {
            Endpoint::ChatCompletions => (None, CHAT_CAP),
            Endpoint::Embeddings => (Some(Extra::Base64), EMBEDDINGS_CAP),
        };
        let (mut reply, outgoing) = self.send(target, call, extra).await?;
        let ttft = reply.patience.elapsed();
        if !content_is(&reply.response, "json") {
            return Err(Bad::from(Unfit::garbage("is not JSON by its content type")).into_error(&reply, target));
        }
        let body = whole(&mut reply, target, cap).await?;
        let read = match call.endpoint {
            Endpoint::ChatCompletions => chat::read(&body, target),
            Endpoint::Embeddings => embeddings::read(&body, outgoing.inputs, target),
        };
        let read = read.map_err(|bad| bad.into_error(&reply, target))?;
        Ok(Answer {
            status: reply.status(),
            body: read.envelope.unwrap_or(body),
            vectors: read.vectors,
            usage: read.usage,
            output_bytes: read.output_bytes,
            model: read.model,
            provider_request_id: reply.request_id,
            service_tier: read.service_tier,
            finish_reason: read.finish_reason,
            ttft,
            latency: reply.patience.elapsed(),
        })
    }

    async fn stream(&self, target: &Target, call: &Call<'_>) -> Result<AnswerStream, CallError> {
        if call.endpoint != Endpoint::ChatCompletions {
            return Err(CallError::new(ErrorClass::InvalidRequest, "only chat completions can be streamed"));
        }
        let (mut reply, outgoing) = self.send(target, call, Some(Extra::StreamUsage)).await?;
        if content_is(&reply.response, "event-stream") {
            return Ok(AnswerStream::new(reply, target, Box::new(stream::Meter::new(outgoing.added))));
        }
        // Some providers report an error as plain JSON under 200.
        let body = whole(&mut reply, target, CHAT_CAP).await?;
        let bad = match chat::read(&body, target) {
            Err(said @ Bad::Said(_)) => said,
            _ => Unfit::garbage("is no event stream by its content type").into(),
        };
        Err(bad.into_error(&reply, target))
    }
}

impl OpenAi {
    pub fn new(http: HttpClients) -> Self {
        Self { http }
    }

    /// Sends `call` and reads the head of a good answer. When the provider refuses by name what Tollway added, the caller is
    /// not to blame: it is left out from then on, and the call goes out again, this once, for nothing has been done yet.
    async fn send(
        &self,
        target: &Target,
        call: &Call<'_>,
        extra: Option<Extra>,
    ) -> Result<(Reply, Outgoing), CallError> {
        let started = Instant::now();
        let outgoing = request::outgoing(call, target, extra.filter(|extra| target.takes(*extra)))?;
        match self.once(target, call, &outgoing, started).await {
            Ok(reply) => Ok((reply, outgoing)),
            Err(error) => {
                let Some(extra) = outgoing.added.filter(|extra| named_in(*extra, &error)) else {
                    return Err(error);
                };
                target.refuses(extra);
                tracing::info!(deployment = %target.name, ?extra, "The provider refuses an addition; it is left out from now on");
                let outgoing = request::outgoing(call, target, None)?;
                let reply = self.once(target, call, &outgoing, started).await?;
                Ok((reply, outgoing))
            }
        }
    }

    async fn once(
        &self,
        target: &Target,
        call: &Call<'_>,
        outgoing: &Outgoing,
        started: Instant,
    ) -> Result<Reply, CallError> {
        let body = outgoing.body.clone();
        let sent = Post { endpoint: call.endpoint, body, attempt_id: call.attempt_id, started };
        refused(post(&self.http, target, sent).await?, target).await
    }
}

fn named_in(extra: Extra, error: &CallError) -> bool {
    let names: &[&str] = match extra {
        Extra::Base64 => &["encoding_format"],
        Extra::StreamUsage => &["stream_options", "include_usage"],
    };
    let body = error.body.as_deref().unwrap_or_default();
    matches!(error.http_status, Some(400 | 422))
        && names.iter().any(|name| memchr::memmem::find(body, name.as_bytes()).is_some())
}
