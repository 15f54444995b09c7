//! What goes into a call and what comes out of it.

use std::{fmt, time::Duration};

use bytes::Bytes;
use domain::{AttemptId, Endpoint, Usage};

use crate::vectors::Vectors;

/// One attempt at one request.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    pub endpoint: Endpoint,
    /// The caller's JSON object as it was written; its `model` still names the route.
    pub body: &'a str,
    /// Goes upstream as `x-client-request-id`.
    pub attempt_id: AttemptId,
}

/// A whole and well-formed answer.
#[derive(Clone)]
pub struct Answer {
    /// 2xx.
    pub status: u16,
    /// The provider's JSON, valid UTF-8, otherwise as it came: it may span several lines. Of embeddings
    /// it is the envelope: each vector's place holds the number of its row in `vectors`.
    pub body: Bytes,
    /// Of embeddings, always; of chat, never.
    pub vectors: Option<Vectors>,
    /// `None` when the provider did not report all counts that this endpoint is billed by.
    pub usage: Option<Usage>,
    /// Text, reasoning and tool calls in bytes of UTF-8 without their JSON: what usage is estimated by, and held against.
    pub output_bytes: u64,
    /// How many answers to the same question it holds; 0 of embeddings.
    pub choices: u32,
    /// The model that answered, as the provider says.
    pub model: Option<String>,
    /// The provider's own id of the call, from its headers.
    pub provider_request_id: Option<String>,
    pub service_tier: Option<String>,
    /// Of the first choice, such as `stop` or `length`; every choice has one. `None` for embeddings.
    pub finish_reason: Option<String>,
    /// From the start of the call until the answer's head was in.
    pub ttft: Duration,
    /// From the start of the call until the last byte was in.
    pub latency: Duration,
}

/// Without the answer itself: it may be logged.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .field("vectors", &self.vectors)
            .field("usage", &self.usage)
            .field("model", &self.model)
            .field("finish_reason", &self.finish_reason)
            .field("latency", &self.latency)
            .finish_non_exhaustive()
    }
}
