//! Response bodies: whole, streamed, or cut off in the middle.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use tokio::time::{Sleep, sleep};

use crate::call::Call;
use crate::journal::Outcome;
use crate::sim::Sim;
use crate::wire::refusal::Refusal;
use crate::wire::stream::Events;

pub enum Reply {
    Whole(Bytes),
    Cut(Box<CutBody>),
    Events(Box<EventBody>),
    Journal(JournalBody),
}

/// Announces `total` bytes, gives `part` of them and closes the socket.
pub struct CutBody {
    pub part: Bytes,
    pub total: u64,
    pub end: SocketEnd,
}

/// A stream of events, perhaps with an early end.
pub struct EventBody {
    pub events: Events,
    pub pace: Duration,
    pub pause: Option<Pin<Box<Sleep>>>,
    /// `None` once the call has ended.
    pub call: Option<Call>,
    pub bytes: usize,
    /// After so many events the socket closes.
    pub cut: Option<(usize, SocketEnd)>,
}

/// The journal's lines `next..until`.
pub struct JournalBody {
    pub sim: Arc<Sim>,
    pub next: u64,
    pub until: u64,
}

/// Closes the socket, but only after what was written before has left.
#[derive(Default)]
pub struct SocketEnd {
    call: Option<Call>,
    flushed: bool,
}

impl SocketEnd {
    pub fn of(call: Call) -> Self {
        Self { call: Some(call), flushed: false }
    }

    /// Waiting one round makes hyper flush; the error after it makes hyper drop the connection.
    fn poll(&mut self, cx: &Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if !self.flushed {
            self.flushed = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(call) = self.call.take() {
            call.finish(Outcome::Cut);
        }
        Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut on command"))))
    }
}

impl EventBody {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let given = self.events.given();
        if given == self.events.count() {
            return Poll::Ready(None);
        }
        let until = match &mut self.cut {
            Some((after, end)) if given >= *after => {
                end.call = end.call.take().or(self.call.take());
                return end.poll(cx);
            }
            Some((after, _)) => *after,
            None => self.events.count(),
        };
        let mut out = Vec::new();
        self.events.push_next(&mut out);
        while self.pace.is_zero() && self.events.given() < until {
            self.events.push_next(&mut out);
        }
        self.bytes += out.len();
        if let Some(call) = &mut self.call {
            call.sent(200, self.events.tokens(), self.bytes);
        }
        if self.events.given() == self.events.count() {
            if let Some(call) = self.call.take() {
                call.finish(Outcome::Ok);
            }
        } else if !self.pace.is_zero() {
            self.pause = Some(Box::pin(sleep(self.pace)));
        }
        Poll::Ready(Some(Ok(Frame::data(out.into()))))
    }
}

impl JournalBody {
    /// So many lines that the lock is held for about 100 µs.
    const LINES: u64 = 256;

    fn next(&mut self) -> Option<Bytes> {
        if self.next >= self.until {
            return None;
        }
        let limit = Self::LINES.min(self.until - self.next) as usize;
        let mut out = Vec::with_capacity(limit * 300);
        self.next = self.sim.journal.lines(self.next, limit, &mut out);
        (!out.is_empty()).then(|| out.into())
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let whole = |bytes: Bytes| Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))));
        match self.get_mut() {
            Reply::Whole(bytes) => whole(std::mem::take(bytes)),
            Reply::Cut(cut) if cut.part.is_empty() => cut.end.poll(cx),
            Reply::Cut(cut) => whole(std::mem::take(&mut cut.part)),
            Reply::Events(events) => events.poll(cx),
            Reply::Journal(lines) => Poll::Ready(lines.next().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Reply::Whole(bytes) => bytes.is_empty(),
            Reply::Events(events) => events.events.given() == events.events.count(),
            Reply::Cut(_) | Reply::Journal(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Reply::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Reply::Cut(cut) => SizeHint::with_exact(cut.total),
            Reply::Events(_) | Reply::Journal(_) => SizeHint::default(),
        }
    }
}

/// A response with this status and content type.
pub fn response(status: u16, content_type: &'static str, reply: Reply) -> Response<Reply> {
    let mut response = Response::new(reply);
    if let Ok(status) = status.try_into() {
        *response.status_mut() = status;
    }
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

pub const JSON: &str = "application/json";

pub fn json(status: u16, body: impl Into<Bytes>) -> Response<Reply> {
    response(status, JSON, Reply::Whole(body.into()))
}

pub fn refusal(refusal: &Refusal) -> Response<Reply> {
    let mut response = json(refusal.status, refusal.body());
    if let Some(seconds) = refusal.retry_after_s {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}
