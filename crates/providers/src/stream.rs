//! An answer that comes in events: passed on as they are, metered on the way, and never ended cleanly unless it was whole.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use domain::{ErrorClass, Usage};
use futures::Stream;
use http_body::Body;

use crate::{
    client::{
        Lent, Patience, Reply, Unfit, broken,
        sse::{Event, Events},
    },
    error::CallError,
    target::Target,
};

/// How long the connection may take to end after the stream's own end, to be used again.
const LAST_BYTES: Duration = Duration::from_millis(250);

#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "an end comes once, and a box would cost each of them an allocation")]
pub enum StreamEvent {
    /// One server-sent event for the caller, byte for byte, with the blank line after it; the last is `data: [DONE]`.
    Chunk(Bytes),
    /// The answer is whole. Nothing follows.
    End(StreamEnd),
}

/// Without the answer itself: it may be logged.
impl fmt::Debug for StreamEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chunk(bytes) => write!(f, "Chunk({} bytes)", bytes.len()),
            Self::End(end) => end.fmt(f),
        }
    }
}

/// What is known of a stream: all of it at the end, a part before.
#[derive(Debug, Clone, Default)]
pub struct StreamEnd {
    /// As the provider reported last.
    pub usage: Option<Usage>,
    /// The model that answers, as the provider says.
    pub model: Option<String>,
    pub service_tier: Option<String>,
    /// Of the choice that ended last.
    pub finish_reason: Option<String>,
    /// Every choice that began has said why it ended.
    pub finish_seen: bool,
    pub provider_request_id: Option<String>,
    /// Text, reasoning and tool calls so far, in bytes of UTF-8 without their JSON: what a partial answer is estimated by.
    pub output_bytes: u64,
    /// From the start of the call until the first output.
    pub ttft: Option<Duration>,
    /// From the start of the call until now.
    pub latency: Duration,
}

/// What a provider's event means for the caller.
pub(crate) enum Step {
    Pass,
    /// It answers what Tollway asked for, not the caller.
    Hide,
    /// The last one.
    Done,
}

/// A provider's reading of its own events.
pub(crate) trait Metering: Send {
    fn take(&mut self, event: &Event, target: &Target, so_far: &mut StreamEnd) -> Result<Step, CallError>;
}

/// A streamed answer. Dropping it ends the call: the provider may bill what it had produced, see [`Self::so_far`].
pub struct AnswerStream {
    body: reqwest::Body,
    events: Events,
    metering: Box<dyn Metering>,
    patience: Patience,
    /// Held, not read: it gives the connection's place back.
    _lent: Lent,
    target: Target,
    status: u16,
    so_far: StreamEnd,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The last event was passed on; the connection is about to end.
    Done,
    Over,
}

impl AnswerStream {
    pub(crate) fn new(reply: Reply, target: &Target, metering: Box<dyn Metering>) -> Self {
        let status = reply.status();
        Self {
            body: reply.response.into(),
            events: Events::default(),
            metering,
            patience: reply.patience,
            _lent: reply.lent,
            target: target.clone(),
            status,
            so_far: StreamEnd { provider_request_id: reply.request_id, ..StreamEnd::default() },
            stage: Stage::Open,
        }
    }

    /// The HTTP status: 2xx.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// What is known now: after an error, or when the caller went away, the partial answer to be costed.
    pub fn so_far(&self) -> StreamEnd {
        StreamEnd { latency: self.patience.elapsed(), ..self.so_far.clone() }
    }

    /// The next event; `None` after the end or an error. Losing the future loses no event.
    pub async fn next(&mut self) -> Option<Result<StreamEvent, CallError>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// An event that is already here, if one is for the caller.
    fn event_at_hand(&mut self) -> Result<Option<Bytes>, CallError> {
        loop {
            let event = self.events.next().map_err(|_| self.unfit(TOO_LONG))?;
            let Some(event) = event else {
                return Ok(None);
            };
            if let Some(chunk) = self.meter(event)? {
                return Ok(Some(chunk));
            }
        }
    }

    fn meter(&mut self, event: Event) -> Result<Option<Bytes>, CallError> {
        let output_before = self.so_far.output_bytes;
        let step = self.metering.take(&event, &self.target, &mut self.so_far)?;
        if output_before == 0 && self.so_far.output_bytes > 0 {
            self.so_far.ttft = Some(self.patience.elapsed());
        }
        match step {
            Step::Hide => return Ok(None),
            Step::Pass => {}
            Step::Done => {
                self.stage = Stage::Done;
                self.patience.at_most(LAST_BYTES);
            }
        }
        Ok(Some(event.raw))
    }

    /// Takes in bytes. `Ready(Ok(false))` when they have ended.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, CallError>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(None) => Poll::Ready(Ok(false)),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(broken(&error, &self.target))),
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(bytes) = frame.data_ref() {
                    self.events.push(bytes);
                }
                Poll::Ready(self.patience.heard().map(|()| true).map_err(|out| out.into_error(&self.target)))
            }
            Poll::Pending => self.patience.poll_out(cx).map(|out| Err(out.into_error(&self.target))),
        }
    }

    /// The bytes have ended without the event that ends a stream; it, or an error, may stand there without its blank line.
    fn last_words(&mut self) -> Poll<Option<Result<StreamEvent, CallError>>> {
        match self.events.rest().map(|event| self.meter(event)) {
            Some(Ok(Some(chunk))) if self.stage == Stage::Done => Poll::Ready(Some(Ok(StreamEvent::Chunk(chunk)))),
            // Half an event is garbage only because it is half.
            Some(Err(error)) if error.class != ErrorClass::Garbage => self.fail(error),
            _ => self.fail(self.unfit(Unfit::CUT)),
        }
    }

    fn unfit(&self, unfit: Unfit) -> CallError {
        unfit.into_error(&self.target)
    }

    fn fail(&mut self, mut error: CallError) -> Poll<Option<Result<StreamEvent, CallError>>> {
        self.stage = Stage::Over;
        error.http_status = Some(self.status);
        error.usage = error.usage.or(self.so_far.usage);
        error.provider_request_id.clone_from(&self.so_far.provider_request_id);
        Poll::Ready(Some(Err(error)))
    }
}

const TOO_LONG: Unfit = Unfit { class: ErrorClass::TooLarge, what: "has an event of more than 1 MiB", usage: None };

impl Stream for AnswerStream {
    type Item = Result<StreamEvent, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            match this.stage {
                Stage::Over => return Poll::Ready(None),
                Stage::Done => {
                    // However the connection ends now, the answer is whole.
                    if let Ok(true) = std::task::ready!(this.poll_bytes(cx)) {
                        continue;
                    }
                    this.stage = Stage::Over;
                    return Poll::Ready(Some(Ok(StreamEvent::End(this.so_far()))));
                }
                Stage::Open => {}
            }
            match this.event_at_hand() {
                Ok(Some(chunk)) => return Poll::Ready(Some(Ok(StreamEvent::Chunk(chunk)))),
                Ok(None) => {}
                Err(error) => return this.fail(error),
            }
            match std::task::ready!(this.poll_bytes(cx)) {
                Ok(true) => {}
                Ok(false) => return this.last_words(),
                Err(error) => return this.fail(error),
            }
        }
    }
}

impl fmt::Debug for AnswerStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerStream").field("target", &self.target.name).field("so_far", &self.so_far).finish()
    }
}
