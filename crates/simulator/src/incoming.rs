//! Reading a request's body.

use std::future::poll_fn;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Incoming};

/// 2,048 inputs of 32 KiB; beyond, the caller has a mistake.
pub const MAX_BODY: usize = 64 << 20;

pub enum Unreadable {
    TooLarge,
    /// The client left before the end of its request.
    Gone,
}

/// The whole body. One that arrived in one piece, as nearly all do, is not copied.
pub async fn read(mut body: Incoming) -> Result<Bytes, Unreadable> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(data) = frame.map_err(|_| Unreadable::Gone)?.into_data() else {
            continue;
        };
        if first.len() + rest.len() + data.len() > MAX_BODY {
            return Err(Unreadable::TooLarge);
        }
        if first.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&data);
        }
        if body.is_end_stream() {
            break;
        }
    }
    if rest.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(first.len() + rest.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&rest);
    Ok(whole.freeze())
}
