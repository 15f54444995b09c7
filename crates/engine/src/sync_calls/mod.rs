//! Synchronous calls take the same way as a job's requests, through the same functions, without the queue. The
//! worst-case cost of a call is durable before its first byte reaches the caller; its ledger row follows within a
//! second. A caller that disconnects changes nothing: the call ends, is metered and booked.

mod admission_wait;
mod admit;
mod calls;
mod pipe;
mod request;
mod streaming;
mod sync_call;
mod unary;

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use domain::{Endpoint, ErrorClass, JobId, Lane, Money, RequestId, Tags};
use futures::Stream;
use tokio::sync::oneshot;

use admission::budgets::Refusal;
pub use calls::Calls;

use crate::{Engine, admit::Caller};

/// A call as the gateway received it.
#[derive(Debug, Clone)]
pub struct Direct {
    /// `req_…`: every answer names it, and the call is booked under it.
    pub request_id: Arc<str>,
    pub endpoint: Endpoint,
    /// The caller's JSON; its model is the route's name.
    pub body: Bytes,
    pub tags: Tags,
    /// The key's first lane when absent.
    pub lane: Option<Lane>,
}

/// What happened, for the answer's headers.
#[derive(Debug, Clone)]
pub struct Meta {
    pub request_id: String,
    pub deployment: Arc<str>,
    pub model: String,
    pub attempts: u32,
    /// `None`: unpriced, or not known before a stream's end.
    pub cost_usd: Option<Money>,
}

pub type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, DirectError>> + Send>>;

pub enum DirectAnswer {
    Whole { status: u16, body: Bytes, meta: Meta },
    Stream { meta: Meta, body: Chunks },
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum DirectError {
    #[error("there is no model {0:?}")]
    UnknownModel(String),
    #[error("model {0:?} has no price for such a call; the operator can declare one, and chat needs `output` too")]
    Unpriced(String),
    #[error("this key may not use the lane {0}")]
    LaneForbidden(Lane),
    #[error("the lane {lane} is closed: it takes no new calls; there are {open}")]
    LaneClosed { lane: Lane, open: String },
    #[error("{0}")]
    Invalid(String),
    /// A limit of the caller's, or of all deployments, is full; `what` says whose it is, and until when.
    #[error("{what}")]
    Limited { what: String, retry_after: Duration },
    /// What it can cost does not fit into what is left of a budget.
    #[error("{0}")]
    Budget(Box<Refusal>),
    /// The provider refused the request itself; its words are the caller's.
    #[error("{message}")]
    Refused { status: u16, class: ErrorClass, message: String, body: Option<Bytes> },
    /// No deployment could answer.
    #[error("{message}")]
    Exhausted { class: ErrorClass, message: String, retry_after: Option<Duration> },
    /// No call can be booked now, so none is made.
    #[error("the gateway cannot reach its database, so it could not book this call; try again in a moment")]
    Unavailable,
}

/// A name for a call that is about to be made: in its answer's headers, in its errors and in the ledger.
pub fn request_id(engine: &Engine) -> Arc<str> {
    RequestId { job: JobId::new(engine.clock.now()), line: 0 }.to_string().into()
}

/// Makes the call. The future may be dropped at any time; the call is booked all the same.
pub async fn call(engine: &Arc<Engine>, caller: &Arc<Caller>, direct: Direct) -> Result<DirectAnswer, DirectError> {
    if !engine.fence.may_start() || !engine.intents.can_be_written() {
        return Err(DirectError::Unavailable);
    }
    let (call, admission) = admit::admit(engine, caller, &direct).await?;
    let (waiting, answer) = oneshot::channel();
    // A task of its own: it outlives a caller that hangs up.
    engine.calls.spawn(sync_call::run(Arc::clone(engine), call, admission, waiting));
    answer.await.unwrap_or_else(|_| Err(DirectError::panicked()))
}
