//! Requests that are refused before their body was read. A connection closed with bytes unread is reset, and the client
//! would see that instead of our answer; so what is left of a body is taken off the wire for a while.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, HttpBody},
    extract::Request,
    http::header,
};
use bytes::Bytes;
use futures::StreamExt;
use hyper::body::{Frame, SizeHint};

/// How long, and how many bytes of, the rest of a refused body are read. More is cut by closing the connection.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
const DRAIN_LIMIT: u64 = 64 << 20;

/// Wraps a request so that its body is read to the end even if the handler drops it. The second value tells how much is
/// unread.
pub fn drained(request: Request) -> (Request, Unread) {
    let body = request.body();
    // A client that waits for "100 Continue" has sent nothing yet, and need not.
    let awaits_word = !body.is_end_stream() && request.headers().contains_key(header::EXPECT);
    let progress = Arc::new(Progress {
        announced: AtomicU64::new(body.size_hint().lower()),
        begun: AtomicBool::new(false),
        ended: AtomicBool::new(body.is_end_stream()),
        awaits_word,
    });
    let unread = Unread(Arc::clone(&progress));
    if body.is_end_stream() {
        return (request, unread);
    }
    (request.map(|body| Body::new(Drained { body, progress })), unread)
}

/// How far a body was read by the time of its answer.
pub struct Unread(Arc<Progress>);

struct Progress {
    /// Bytes to come at least, as far as the head said.
    announced: AtomicU64,
    begun: AtomicBool,
    ended: AtomicBool,
    awaits_word: bool,
}

impl Unread {
    /// Whether so much is unread that the connection closes rather than read it: its client must be told.
    pub fn closes(&self) -> bool {
        if self.0.ended.load(Relaxed) {
            return false;
        }
        self.0.is_withheld() || self.0.announced.load(Relaxed) > DRAIN_LIMIT
    }
}

impl Progress {
    /// The client never sent the body, because nobody asked for it.
    fn is_withheld(&self) -> bool {
        self.awaits_word && !self.begun.load(Relaxed)
    }
}

struct Drained {
    body: Body,
    progress: Arc<Progress>,
}

impl HttpBody for Drained {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.progress.begun.store(true, Relaxed);
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match &frame {
            Poll::Ready(None | Some(Err(_))) => self.progress.ended.store(true, Relaxed),
            Poll::Ready(Some(Ok(_))) => self.progress.announced.store(self.body.size_hint().lower(), Relaxed),
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.progress.ended.load(Relaxed) || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        if self.is_end_stream() {
            self.progress.ended.store(true, Relaxed);
            return;
        }
        if self.progress.is_withheld() || self.body.size_hint().lower() > DRAIN_LIMIT {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let mut rest = std::mem::take(&mut self.body).into_data_stream();
        runtime.spawn(tokio::time::timeout(DRAIN_TIMEOUT, async move {
            let mut read = 0;
            while let Some(Ok(piece)) = rest.next().await {
                read += piece.len() as u64;
                if read > DRAIN_LIMIT {
                    return;
                }
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tokio::sync::mpsc;
    use tokio_stream::wrappers::ReceiverStream;

    use super::*;

    /// A request whose body nobody reads, and its sender.
    fn unread(request: axum::http::request::Builder) -> mpsc::Sender<Result<Bytes, Infallible>> {
        let (sender, receiver) = mpsc::channel(1);
        drop(drained(request.body(Body::from_stream(ReceiverStream::new(receiver))).unwrap()).0);
        sender
    }

    #[tokio::test]
    async fn an_unread_body_is_still_taken_off_the_wire() {
        let sender = unread(Request::post("/"));
        for _ in 0..10 {
            sender.send(Ok(Bytes::from_static(b"12345"))).await.expect("somebody still reads");
        }
    }

    #[tokio::test]
    async fn a_body_that_was_not_asked_for_is_not_read() {
        assert!(unread(Request::post("/").header("expect", "100-continue")).is_closed());
    }
    /// A body of this announced length that nobody reads.
    fn closes(request: axum::http::request::Builder, length: usize) -> bool {
        let (request, unread) = drained(request.body(Body::from(vec![0; length])).unwrap());
        drop(request);
        unread.closes()
    }

    #[tokio::test]
    async fn a_client_is_told_when_its_connection_closes() {
        assert!(!closes(Request::post("/"), 0));
        assert!(!closes(Request::post("/"), 1 << 20));
        assert!(closes(Request::post("/"), DRAIN_LIMIT as usize + 1));
        assert!(closes(Request::post("/").header("expect", "100-continue"), 5));
        assert!(!closes(Request::post("/").header("expect", "100-continue"), 0));
    }
}
