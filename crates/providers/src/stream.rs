//! An answer that comes in events: passed on as they are or translated, metered on the way, and never ended cleanly unless it was whole.
//! It begins for the caller with its first content; what fails before that can still be asked of another deployment.

use std::{
    collections::VecDeque,
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
        CallTimer, Reply, Unfit, broken,
        sse::{Event, Events},
    },
    error::CallError,
    pool::Lent,
    target::Target,
};

/// How long the connection may take to end after the stream's own end, to be used again.
const LAST_BYTES_TIMEOUT: Duration = Duration::from_millis(250);

#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "an end comes once, and a box would cost each of them an allocation")]
pub enum StreamEvent {
    /// Whole server-sent events for the caller, mostly one, each with the blank line after it; the last is `data: [DONE]`.
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
    /// As the provider reported last. Where it reports input first and output at the end, output is estimated until then.
    pub usage: Option<Usage>,
    /// The model that answers, as the provider says.
    pub model: Option<String>,
    pub service_tier: Option<String>,
    /// Of the choice that ended last.
    pub finish_reason: Option<String>,
    /// How many choices have begun.
    pub choices: u32,
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
    /// It is for the caller, and no part of the answer: a role, a keep-alive.
    Pass,
    /// A part of the answer.
    Content,
    /// It says nothing, or answers what Tollway asked for, not the caller.
    Hide,
    /// The last one.
    Done,
    /// Its translation into the caller's wire format.
    Translated { chunk: Bytes, is_content: bool, is_last: bool },
}

/// A provider's reading of its own events.
pub(crate) trait Metering: Send {
    fn take(&mut self, event: &Event, target: &Target, so_far: &mut StreamEnd) -> Result<Step, CallError>;

    /// The usage that stands somewhere in `bytes`, an event that is not read.
    fn usage_in(&self, bytes: &[u8]) -> Option<Usage>;

    /// What ends the stream for the caller when the provider leaves its own last event out.
    fn last(&self, _so_far: &StreamEnd) -> Bytes {
        DONE
    }
}

/// The event that ends a stream.
pub(crate) const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// A streamed answer. Dropping it ends the call: the provider may bill what it had produced, see [`Self::so_far`].
pub struct AnswerStream {
    body: reqwest::Body,
    events: Events,
    metering: Box<dyn Metering>,
    timer: CallTimer,
    /// Held, not read: it gives the connection's place back.
    _lent: Lent,
    target: Target,
    status: u16,
    so_far: StreamEnd,
    stage: Stage,
    /// What came before the first content, and that: read, and not passed on yet.
    held_back: VecDeque<Bytes>,
    has_content: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The bytes have ended cleanly after every choice was finished: the provider sends no last event.
    Finished,
    /// The last event was passed on; the connection is about to end.
    Done,
    Over,
}

impl AnswerStream {
    /// Reads up to the first content, or to the end of an answer that is whole without any.
    pub(crate) async fn open(reply: Reply, target: &Target, metering: Box<dyn Metering>) -> Result<Self, CallError> {
        let mut stream = Self::new(reply, target, metering);
        let mut bytes = 0;
        while !stream.has_content && stream.stage == Stage::Open {
            match std::future::poll_fn(|cx| stream.poll_event(cx)).await {
                Some(Ok(StreamEvent::Chunk(chunk))) => {
                    bytes += chunk.len();
                    stream.held_back.push_back(chunk);
                    if bytes > target.max_event {
                        return Err(stream.failed(stream.too_large("begins without content, with comments")));
                    }
                }
                Some(Ok(StreamEvent::End(_))) | None => break,
                Some(Err(error)) => return Err(error),
            }
        }
        Ok(stream)
    }

    fn new(reply: Reply, target: &Target, metering: Box<dyn Metering>) -> Self {
        let status = reply.status();
        Self {
            body: reply.response.into(),
            events: Events::new(target.max_event),
            metering,
            timer: reply.timer,
            _lent: reply.lent,
            target: target.clone(),
            status,
            so_far: StreamEnd { provider_request_id: reply.request_id, ..StreamEnd::default() },
            stage: Stage::Open,
            held_back: VecDeque::new(),
            has_content: false,
        }
    }

    /// The HTTP status: 2xx.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// What is known now: after an error, or when the caller went away, the partial answer to be costed.
    pub fn so_far(&self) -> StreamEnd {
        StreamEnd { latency: self.timer.elapsed(), ..self.so_far.clone() }
    }

    /// The next event; `None` after the end or an error. Losing the future loses no event.
    pub async fn next(&mut self) -> Option<Result<StreamEvent, CallError>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// An event that is already here, if one is for the caller.
    fn event_at_hand(&mut self) -> Result<Option<Bytes>, CallError> {
        loop {
            let event = self.events.next().map_err(|_| self.too_large("has an event"))?;
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
            self.so_far.ttft = Some(self.timer.elapsed());
        }
        let (chunk, is_content, is_last) = match step {
            Step::Hide => return Ok(None),
            Step::Pass => (event.raw, false, false),
            Step::Content => (event.raw, true, false),
            Step::Done => (event.raw, false, true),
            Step::Translated { chunk, is_content, is_last } => (chunk, is_content, is_last),
        };
        self.has_content |= is_content;
        if is_last {
            self.stage = Stage::Done;
            self.timer.at_most(LAST_BYTES_TIMEOUT);
        }
        Ok(Some(chunk))
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
                Poll::Ready(self.timer.heard().map(|()| true).map_err(|out| out.into_error(&self.target)))
            }
            Poll::Pending => self.timer.poll_out(cx).map(|out| Err(out.into_error(&self.target))),
        }
    }

    /// The bytes have ended cleanly and without the event that ends a stream. The last event may stand there without its blank line. The
    /// answer is whole when every choice has said why it ended.
    fn last_words(&mut self) -> Poll<Option<Result<StreamEvent, CallError>>> {
        let rest = self.events.rest();
        // Half an event is garbage only because it is half.
        let may_be_half = rest.as_ref().is_some_and(|event| event.data.is_some());
        let last = match rest.map(|event| self.meter(event)) {
            Some(Err(error)) if error.class == ErrorClass::Garbage && may_be_half => {
                return self.fail(self.unfit(Unfit::CUT));
            }
            Some(Err(error)) => return self.fail(error),
            Some(Ok(chunk)) => chunk,
            None => None,
        };
        if self.stage == Stage::Open {
            if !self.so_far.finish_seen {
                return self.fail(self.unfit(Unfit::CUT));
            }
            self.stage = Stage::Finished;
        }
        match last {
            Some(chunk) => Poll::Ready(Some(Ok(StreamEvent::Chunk([&chunk[..], b"\n\n"].concat().into())))),
            None => Poll::Ready(Some(Ok(StreamEvent::Chunk(self.done())))),
        }
    }

    /// The last event, in the provider's place.
    fn done(&mut self) -> Bytes {
        self.stage = Stage::Done;
        self.metering.last(&self.so_far)
    }

    fn too_large(&self, what: &str) -> CallError {
        let usage = self.metering.usage_in(self.events.unread());
        self.unfit(Unfit::too_large(what, self.target.max_event, "max_event_mb").with_usage(usage))
    }

    fn unfit(&self, unfit: Unfit) -> CallError {
        unfit.into_error(&self.target)
    }

    fn failed(&self, mut error: CallError) -> CallError {
        error.http_status = Some(self.status);
        error.usage = error.usage.or(self.so_far.usage);
        error.provider_request_id.clone_from(&self.so_far.provider_request_id);
        error
    }

    fn fail(&mut self, error: CallError) -> Poll<Option<Result<StreamEvent, CallError>>> {
        self.stage = Stage::Over;
        Poll::Ready(Some(Err(self.failed(error))))
    }

    /// The next event as it comes in.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<StreamEvent, CallError>>> {
        loop {
            match self.stage {
                Stage::Over => return Poll::Ready(None),
                Stage::Finished => return Poll::Ready(Some(Ok(StreamEvent::Chunk(self.done())))),
                Stage::Done => {
                    // However the connection ends now, the answer is whole.
                    if let Ok(true) = std::task::ready!(self.poll_bytes(cx)) {
                        continue;
                    }
                    self.stage = Stage::Over;
                    return Poll::Ready(Some(Ok(StreamEvent::End(self.so_far()))));
                }
                Stage::Open => {}
            }
            match self.event_at_hand() {
                Ok(Some(chunk)) => return Poll::Ready(Some(Ok(StreamEvent::Chunk(chunk)))),
                Ok(None) => {}
                Err(error) => return self.fail(error),
            }
            match std::task::ready!(self.poll_bytes(cx)) {
                Ok(true) => {}
                Ok(false) => return self.last_words(),
                Err(error) => return self.fail(error),
            }
        }
    }
}

impl Stream for AnswerStream {
    type Item = Result<StreamEvent, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.held_back.pop_front() {
            Some(chunk) => Poll::Ready(Some(Ok(StreamEvent::Chunk(chunk)))),
            None => self.poll_event(cx),
        }
    }
}

impl fmt::Debug for AnswerStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerStream").field("target", &self.target.name).field("so_far", &self.so_far).finish()
    }
}
