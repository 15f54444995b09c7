//! OpenAI's API, and all that speak it: chat completions and embeddings.

mod additions;
mod answer;
mod base64_vectors;
mod chat;
mod embeddings;
mod floats;
mod output;
mod plausible;
mod request;
mod stream;
mod usage;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use domain::{Endpoint, ErrorClass, Usage};
use reqwest::header::AUTHORIZATION;
use tokio::time::Instant;

pub use request::wants_base64;

use crate::{
    Provider,
    call::{Answer, Call},
    client::{ContentType, Post, Reply, Unfit, answer, post, refused},
    error::CallError,
    kind::{Kind, put_secret},
    pool::HttpClients,
    stream::AnswerStream,
    target::{Extra, Target},
};
use answer::{Bad, Read};
use request::Outgoing;

pub(crate) static KIND: Kind = Kind {
    path: |endpoint| Some(endpoint.path()),
    models_query: &[],
    headers: |headers, credential| match credential {
        Some(secret) => put_secret(headers, AUTHORIZATION, "Bearer ", secret),
        None => Ok(()),
    },
    provider: |http| Arc::new(OpenAi::new(http)),
};

pub(crate) struct OpenAi {
    http: HttpClients,
}

#[async_trait]
impl Provider for OpenAi {
    async fn call(&self, target: &Target, call: &Call<'_>) -> Result<Answer, CallError> {
        let started = Instant::now();
        let failed = match self.ask(target, call, started).await {
            Ok(answer) => return Ok(answer),
            Err(failed) => failed,
        };
        if !failed.may_be_had_as_floats {
            return Err(failed.error);
        }
        // The provider was paid for an answer in an unreadable encoding: its usage is added to that of the second answer.
        additions::leave_out(Extra::Base64, target);
        let both = |second: Option<Usage>| match failed.error.usage {
            Some(first) => Some(second.unwrap_or(first).plus(&first)),
            None => second,
        };
        match self.ask(target, call, started).await {
            Ok(answer) => Ok(Answer { usage: both(answer.usage), ..answer }),
            Err(again) => Err(CallError { usage: both(again.error.usage), ..again.error }),
        }
    }

    async fn stream(&self, target: &Target, call: &Call<'_>) -> Result<AnswerStream, CallError> {
        if call.endpoint != Endpoint::ChatCompletions {
            return Err(CallError::new(ErrorClass::InvalidRequest, "only chat completions can be streamed"));
        }
        let (mut reply, outgoing) = self.send(target, call, Some(Extra::StreamUsage), Instant::now()).await?;
        match ContentType::of(&reply.response) {
            ContentType::Events | ContentType::Untold => {
                AnswerStream::open(reply, target, Box::new(stream::Meter::new(outgoing.added))).await
            }
            // Some providers report an error as plain JSON under 200.
            told => {
                let body = answer(&mut reply, target, |bytes| usage::find(bytes, call.endpoint)).await?;
                let mut error = stream::no_stream(&body, target);
                if error.class == ErrorClass::Garbage {
                    error.message = format!("{}: it is {}", error.message, told.name());
                }
                Err(reply.blame(error))
            }
        }
    }
}

/// Why a call gave no answer.
struct Failed {
    error: CallError,
    /// The answer's vectors could not be read as they were packed.
    may_be_had_as_floats: bool,
}

impl From<CallError> for Failed {
    fn from(error: CallError) -> Self {
        Self { error, may_be_had_as_floats: false }
    }
}

impl OpenAi {
    pub fn new(http: HttpClients) -> Self {
        Self { http }
    }

    async fn ask(&self, target: &Target, call: &Call<'_>, started: Instant) -> Result<Answer, Failed> {
        let extra = match call.endpoint {
            Endpoint::ChatCompletions => None,
            Endpoint::Embeddings => Some(Extra::Base64),
        };
        let (mut reply, outgoing) = self.send(target, call, extra, started).await?;
        let ttft = reply.timer.elapsed();
        let told = ContentType::of(&reply.response);
        let body = answer(&mut reply, target, |bytes| usage::find(bytes, call.endpoint)).await?;
        let read = fits(read(call.endpoint, &body, &outgoing, target), &told);
        let read = read.map_err(|bad| Failed {
            may_be_had_as_floats: matches!(bad, Bad::Encoding(_)) && outgoing.added == Some(Extra::Base64),
            error: bad.into_error(&reply, target),
        })?;
        Ok(Answer {
            status: reply.status(),
            body: read.envelope.unwrap_or(body),
            vectors: read.vectors,
            usage: read.usage,
            output_bytes: read.output_bytes,
            choices: read.choices,
            model: read.model,
            provider_request_id: reply.request_id,
            service_tier: read.service_tier,
            finish_reason: read.finish_reason,
            ttft,
            latency: reply.timer.elapsed(),
        })
    }

    /// Sends `call` and reads the head of a good answer. When the provider refuses what Tollway added, or may have done so, the call goes
    /// out again without it, this once, for nothing has been done yet.
    async fn send(
        &self,
        target: &Target,
        call: &Call<'_>,
        extra: Option<Extra>,
        started: Instant,
    ) -> Result<(Reply, Outgoing), CallError> {
        let outgoing = request::outgoing(call, target, extra.filter(|extra| target.takes(*extra)))?;
        let error = match self.once(target, call, &outgoing, started).await {
            Ok(reply) => {
                if let Some(extra) = outgoing.added {
                    target.took(extra);
                }
                return Ok((reply, outgoing));
            }
            Err(error) => error,
        };
        let blamed = outgoing.added.and_then(|extra| Some((extra, additions::blame(extra, &error, target)?)));
        let Some((extra, blame)) = blamed else {
            return Err(error);
        };
        let without = request::outgoing(call, target, None)?;
        let reply = self.once(target, call, &without, started).await?;
        additions::convict(extra, blame, &error, target);
        Ok((reply, without))
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

fn read(endpoint: Endpoint, body: &Bytes, outgoing: &Outgoing, target: &Target) -> Result<Read, Bad> {
    match endpoint {
        Endpoint::ChatCompletions => chat::read(body, target),
        Endpoint::Embeddings => embeddings::read(body, outgoing.expected, target),
    }
}

/// An answer under the content type of something else is somebody else's, though it was perhaps paid for.
fn fits(read: Result<Read, Bad>, told: &ContentType) -> Result<Read, Bad> {
    if matches!(told, ContentType::Json | ContentType::Untold) {
        return read;
    }
    let usage = match read {
        Err(said @ Bad::Said(_)) => return Err(said),
        Err(Bad::Unfit(unfit) | Bad::Encoding(unfit)) => unfit.usage,
        Ok(read) => read.usage,
    };
    Err(Unfit::garbage(format!("is {} by its content type, not JSON", told.name())).with_usage(usage).into())
}
