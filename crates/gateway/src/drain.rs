//! Requests that are refused before their body was read. A connection closed with bytes unread is reset, and the client
//! would see that instead of our answer; so what is left of a body is taken off the wire for a while.

use std::{
    pin::Pin,
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

const FOR: Duration = Duration::from_secs(10);

/// The request with a body that is read to its end, whoever drops it before.
pub fn drained(request: Request) -> Request {
    // A client that waits for "100 Continue" has sent nothing yet, and need not.
    if request.body().is_end_stream() || request.headers().contains_key(header::EXPECT) {
        return request;
    }
    request.map(|body| Body::new(Drained { body, ended: false }))
}

struct Drained {
    body: Body,
    ended: bool,
}

impl HttpBody for Drained {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.ended |= matches!(frame, Poll::Ready(None | Some(Err(_))));
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        if self.is_end_stream() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let mut rest = std::mem::take(&mut self.body).into_data_stream();
        runtime.spawn(tokio::time::timeout(FOR, async move { while let Some(Ok(_)) = rest.next().await {} }));
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
        drop(drained(request.body(Body::from_stream(ReceiverStream::new(receiver))).unwrap()));
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
}
