//! Re-checks the caller of a long body. A key is checked when a request arrives, but a stream or an upload may outlive
//! that check by hours. So bodies of both directions check four times a second whether their caller still has the
//! permission of the route. They end as soon as it does not, or when a shutdown cuts everything.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, HttpBody},
    extract::Request,
    http::header,
    response::Response,
};
use bytes::Bytes;
use engine::admit::{Caller, Permission};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::{
    App,
    problem::{Kind, Problem},
    surface::{Surface, anthropic, openai::Failure},
};

/// With the interval at which replicas read the keys anew, well below a second.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// A caller and what it was let in for.
#[derive(Clone)]
pub struct Standing {
    app: App,
    caller: Arc<Caller>,
    permission: Permission,
    /// Why its request's body was ended, which is then the answer.
    lost: Arc<OnceLock<Ended>>,
}

/// Why a body ends before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The key was revoked or changed, or its team was disabled.
    Revoked,
    Shutdown,
}

impl Standing {
    pub fn new(app: App, caller: Arc<Caller>, permission: Permission) -> Self {
        Self { app, caller, permission, lost: Arc::default() }
    }

    /// Whether the caller may still do what it began, and for the same teams.
    fn holds(&self) -> bool {
        let now = self.app.engine.keys.current(&self.caller.key_id);
        now.is_some_and(|now| {
            let scope = |caller: &Caller| caller.scope(self.permission);
            now.team_id == self.caller.team_id && now.may(self.permission) && scope(&now) == scope(&self.caller)
        })
    }

    /// Wraps a request so that its body ends when the caller loses its permission.
    pub fn of_request(&self, request: Request) -> Request {
        if request.body().is_end_stream() {
            return request;
        }
        request.map(|body| Body::new(Watched::new(self.clone(), body, Ending::Request)))
    }

    /// Wraps a response so that a stream ends when the caller loses its permission.
    pub fn of_response(self, response: Response, surface: Surface) -> Response {
        if let Some(ended) = self.lost.get() {
            return surface.refuse(ended.problem());
        }
        // What is whole already is sent whole.
        if response.body().is_end_stream() || response.body().size_hint().exact().is_some() {
            return response;
        }
        let media = response.headers().get(header::CONTENT_TYPE).map(|value| value.as_bytes());
        let ending = match media {
            Some(media) if media.starts_with(b"text/event-stream") => Ending::Event(surface),
            _ => Ending::Cut,
        };
        response.map(|body| Body::new(Watched::new(self, body, ending)))
    }
}

impl Ended {
    fn problem(self) -> Problem {
        match self {
            Self::Revoked => Problem::new(
                Kind::Unauthorized,
                "The API key was revoked, expired or changed, or its team was disabled, while this was under way.",
            ),
            Self::Shutdown => shutting_down(),
        }
    }
}

/// The problem for an answer that a shutdown cuts.
pub fn shutting_down() -> Problem {
    Problem::unavailable("Tollway is shutting down, and this took longer than it could wait.")
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem().detail)
    }
}

impl Error for Ended {}

/// How a body ends early.
#[derive(Debug, Clone, Copy)]
enum Ending {
    /// Its reader is the handler, which hears that it broke off.
    Request,
    /// The connection is cut, so that nobody takes a part for the whole.
    Cut,
    /// With an event of the surface's form that says why.
    Event(Surface),
}

struct Watched {
    body: Body,
    standing: Standing,
    ending: Ending,
    /// When the caller is checked again.
    due: Instant,
    /// What wakes a body that has nothing to give; most bodies never have to wait.
    wakers: Option<Wakers>,
    is_over: bool,
}

struct Wakers {
    due: Pin<Box<Sleep>>,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Watched {
    fn new(standing: Standing, body: Body, ending: Ending) -> Self {
        Self { body, standing, ending, due: Instant::now() + POLL_INTERVAL, wakers: None, is_over: false }
    }

    fn ended(&mut self, now: Instant) -> Option<Ended> {
        if self.standing.app.cutting.is_cancelled() {
            return Some(Ended::Shutdown);
        }
        if now < self.due {
            return None;
        }
        self.due = now + POLL_INTERVAL;
        (!self.standing.holds()).then_some(Ended::Revoked)
    }

    /// Has the body polled again when the check is due, even if no data arrived.
    fn wake_when_due(&mut self, cx: &mut Context<'_>) {
        let due = self.due;
        let shutdown = &self.standing.app.cutting;
        let wakers = self.wakers.get_or_insert_with(|| Wakers {
            due: Box::pin(sleep_until(due)),
            shutdown: Box::pin(shutdown.clone().cancelled_owned()),
        });
        wakers.due.as_mut().reset(due);
        if wakers.due.as_mut().poll(cx).is_ready() || wakers.shutdown.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    fn last_frame(&mut self, ended: Ended) -> Result<Frame<Bytes>, axum::Error> {
        self.is_over = true;
        self.body = Body::empty();
        match self.ending {
            Ending::Request => {
                let _ = self.standing.lost.set(ended);
                Err(axum::Error::new(ended))
            }
            Ending::Cut => Err(axum::Error::new(ended)),
            Ending::Event(surface) => Ok(Frame::data(event(surface, ended.problem()))),
        }
    }
}

/// The last event of a stream that ends early.
fn event(surface: Surface, problem: Problem) -> Bytes {
    match surface {
        Surface::OpenAi => format!("data: {}\n\n", Failure(problem).json()).into(),
        Surface::Anthropic => format!("event: error\ndata: {}\n\n", anthropic::Failure(problem).json()).into(),
        Surface::Native => format!("event: error\ndata: {}\n\n", problem.json()).into(),
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if let Some(ended) = self.ended(Instant::now()) {
            return Poll::Ready(Some(self.last_frame(ended)));
        }
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_pending() {
            self.wake_when_due(cx);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
