//! Anthropic's Messages API for callers of chat completions. The request is translated on its way out, the answer and its events on their
//! way back. A request that cannot be translated is refused with the name of the field; no field that matters is left out.

mod answer;
mod error;
mod fields;
mod maximum;
mod request;
mod stream;
mod tools;
mod turns;
mod usage;

use std::sync::Arc;

use async_trait::async_trait;
use chrono::Utc;
use domain::{Endpoint, ErrorClass};
use reqwest::header::{HeaderName, HeaderValue};
use tokio::time::Instant;

use crate::{
    Provider,
    call::{Answer, Call},
    client::{self, ContentType, Post, Reply, Unfit, post, refused},
    error::CallError,
    kind::{Kind, put_secret},
    pool::HttpClients,
    stream::AnswerStream,
    target::Target,
};
use request::Outgoing;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const VERSION: HeaderName = HeaderName::from_static("anthropic-version");

pub(crate) static KIND: Kind = Kind {
    path: |endpoint| match endpoint {
        Endpoint::ChatCompletions => Some("/messages"),
        Endpoint::Embeddings => None,
    },
    // The list comes in pages of 20 otherwise.
    models_query: &[("limit", "1000")],
    headers: |headers, credential| {
        headers.insert(VERSION, HeaderValue::from_static("2023-06-01"));
        match credential {
            Some(secret) => put_secret(headers, API_KEY, "", secret),
            None => Ok(()),
        }
    },
    provider: |http| Arc::new(Anthropic { http }),
};

struct Anthropic {
    http: HttpClients,
}

impl Anthropic {
    async fn send(&self, target: &Target, call: &Call<'_>) -> Result<(Reply, Outgoing), CallError> {
        // A body for another endpoint is not to be read as a chat.
        target.url(call.endpoint)?;
        let outgoing = request::outgoing(call.body, target)?;
        let body = outgoing.body.clone();
        let sent = Post { endpoint: call.endpoint, body, attempt_id: call.attempt_id, started: Instant::now() };
        Ok((refused(post(&self.http, target, sent).await?, target).await?, outgoing))
    }

    async fn ask(&self, target: &Target, call: &Call<'_>) -> Result<Answer, CallError> {
        let (mut reply, _) = self.send(target, call).await?;
        let ttft = reply.timer.elapsed();
        let told = ContentType::of(&reply.response);
        let body = client::answer(&mut reply, target, usage::find).await?;
        let read = answer::read(&body, target, Utc::now()).map_err(|error| reply.blame(error))?;
        if !matches!(told, ContentType::Json | ContentType::Untold) {
            let unfit = Unfit::garbage(format!("is {} by its content type, not JSON", told.name()));
            return Err(reply.blame(unfit.with_usage(read.usage).into_error(target)));
        }
        Ok(Answer {
            status: reply.status(),
            body: read.body,
            vectors: None,
            usage: read.usage,
            output_bytes: read.output_bytes,
            choices: 1,
            model: read.model,
            provider_request_id: reply.request_id,
            service_tier: read.service_tier,
            finish_reason: Some(read.finish_reason.to_owned()),
            ttft,
            latency: reply.timer.elapsed(),
        })
    }

    async fn begin(&self, target: &Target, call: &Call<'_>) -> Result<AnswerStream, CallError> {
        let (mut reply, outgoing) = self.send(target, call).await?;
        match ContentType::of(&reply.response) {
            ContentType::Events | ContentType::Untold => {
                let translator = stream::Translator::new(outgoing.wants_usage, Utc::now());
                AnswerStream::open(reply, target, Box::new(translator)).await
            }
            told => {
                let body = client::answer(&mut reply, target, usage::find).await?;
                let mut error = answer::no_stream(&body, target);
                if error.class == ErrorClass::Garbage {
                    error.message = format!("{}: it is {}", error.message, told.name());
                }
                Err(reply.blame(error))
            }
        }
    }
}

#[async_trait]
impl Provider for Anthropic {
    async fn call(&self, target: &Target, call: &Call<'_>) -> Result<Answer, CallError> {
        self.ask(target, call).await.map_err(error::in_openai_form)
    }

    async fn stream(&self, target: &Target, call: &Call<'_>) -> Result<AnswerStream, CallError> {
        self.begin(target, call).await.map_err(error::in_openai_form)
    }
}

#[cfg(test)]
mod tests {
    use domain::{Deployment, catalog::ProviderKind};

    use super::*;
    use crate::target::tests::deployment;

    #[test]
    fn the_path_the_key_and_the_version_are_anthropics() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "sk-secret").unwrap();
        let credential = Some(format!("file:{}", file.path().display()));
        let kind = ProviderKind::Anthropic;
        let target = Target::resolve("d", &Deployment { kind, credential, ..deployment("https://x/v1") }).unwrap();
        assert_eq!(target.url(Endpoint::ChatCompletions).unwrap().as_str(), "https://x/v1/messages");
        assert_eq!(target.models_url().as_str(), "https://x/v1/models?limit=1000");
        assert_eq!(
            (&target.headers()[API_KEY], &target.headers()[VERSION]),
            (&"sk-secret".parse().unwrap(), &"2023-06-01".parse().unwrap())
        );
        assert_eq!(target.headers().get("authorization"), None);
        assert!(!format!("{target:?}").contains("sk-secret"));
        let error = target.url(Endpoint::Embeddings).unwrap_err();
        assert_eq!(error.class, ErrorClass::InvalidRequest);
        assert!(error.message.contains("kind anthropic") && error.message.contains("/v1/embeddings"), "{error}");
    }
}
