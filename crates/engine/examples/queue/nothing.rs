//! A provider that does nothing, in no time.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::{ErrorClass, Usage};
use providers::{Answer, AnswerStream, Call, CallError, Provider, Target};

pub struct Nothing;

#[async_trait]
impl Provider for Nothing {
    async fn call(&self, _: &Target, _: &Call<'_>) -> Result<Answer, CallError> {
        Ok(Answer {
            status: 200,
            body: Bytes::from_static(b"{}"),
            vectors: None,
            usage: Some(Usage { input_uncached: Some(1), output_text: Some(1), ..Usage::default() }),
            output_bytes: 0,
            choices: 1,
            model: None,
            provider_request_id: None,
            service_tier: None,
            finish_reason: None,
            ttft: Duration::ZERO,
            latency: Duration::ZERO,
        })
    }

    async fn stream(&self, _: &Target, _: &Call<'_>) -> Result<AnswerStream, CallError> {
        Err(CallError {
            class: ErrorClass::InvalidRequest,
            http_status: None,
            retry_after: None,
            message: "nothing cannot be streamed".to_owned(),
            body: None,
            usage: None,
            provider_request_id: None,
        })
    }
}
