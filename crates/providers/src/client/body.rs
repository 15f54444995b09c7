//! Reads an answer's body to its end, within time and size.

use std::error::Error as StdError;

use bytes::{Bytes, BytesMut};
use domain::ErrorClass;
use reqwest::{Response, header::CONTENT_TYPE};

use super::send::Reply;
use crate::{error::CallError, target::Target};

/// Room made for a body before any of it is there, whatever its head claims.
const TRUSTED: usize = 1 << 20;

/// The whole body, unpacked when it came compressed; `TooLarge` as soon as it has more than `cap` bytes.
pub(crate) async fn whole(reply: &mut Reply, target: &Target, cap: usize) -> Result<Bytes, CallError> {
    let announced = reply.response.content_length().and_then(|n| usize::try_from(n).ok());
    if announced.is_some_and(|n| n > cap) {
        return Err(reply.blame(too_large(target, cap)));
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    loop {
        let chunk = match reply.patience.wait(reply.response.chunk()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => break,
            Ok(Err(error)) => return Err(reply.blame(broken(&error, target))),
            Err(out_of_time) => return Err(reply.blame(out_of_time.into_error(target))),
        };
        if first.len() + rest.len() + chunk.len() > cap {
            return Err(reply.blame(too_large(target, cap)));
        }
        // Most answers arrive in one piece, and are not copied.
        if first.is_empty() && rest.is_empty() {
            first = chunk;
            continue;
        }
        if rest.is_empty() {
            rest.reserve(announced.unwrap_or(first.len() * 4).min(TRUSTED));
            rest.extend_from_slice(&std::mem::take(&mut first));
        }
        rest.extend_from_slice(&chunk);
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

fn too_large(target: &Target, cap: usize) -> CallError {
    let message = format!("the answer of deployment {} is larger than {cap} bytes", target.name);
    CallError::new(ErrorClass::TooLarge, message)
}

/// Why a body ended in an error: packed wrongly, or cut.
pub(crate) fn broken(error: &reqwest::Error, target: &Target) -> CallError {
    let name = &target.name;
    if unpackable(error) {
        return CallError::new(ErrorClass::Garbage, format!("the answer of deployment {name} cannot be unpacked"));
    }
    let cause = super::send::root_cause(error);
    CallError::new(ErrorClass::Cut, format!("the answer of deployment {name} ended before it was whole: {cause}"))
}

fn unpackable(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind::{InvalidData, InvalidInput};
            return matches!(io.kind(), InvalidData | InvalidInput);
        }
        cause = inner.source();
    }
    false
}

/// Whether the content type names `kind`; servers that send none are believed.
pub(crate) fn content_is(response: &Response, kind: &str) -> bool {
    let Some(value) = response.headers().get(CONTENT_TYPE) else {
        return true;
    };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    essence.to_ascii_lowercase().contains(kind)
}
