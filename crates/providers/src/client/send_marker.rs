//! A request body that tells when it goes out: until then a silent provider is not silent but not yet connected.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

/// Set when the connection takes the body.
pub(crate) type GoneOut = Arc<OnceLock<Instant>>;

pub(crate) struct Sent {
    bytes: Bytes,
    gone_out: GoneOut,
}

impl Sent {
    /// `bytes` as a body, and when it went out.
    pub fn new(bytes: Bytes) -> (Self, GoneOut) {
        let gone_out = GoneOut::default();
        (Self { bytes, gone_out: gone_out.clone() }, gone_out)
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.bytes.is_empty() {
            return Poll::Ready(None);
        }
        self.gone_out.get_or_init(Instant::now);
        Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}
