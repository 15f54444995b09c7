//! Reads an answer's body to its end, within time and size.

use std::error::Error as StdError;

use bytes::{Bytes, BytesMut};
use domain::{ErrorClass, Usage};

use super::{Unfit, send::Reply};
use crate::{error::CallError, target::Target};

/// Room made for a body before any of it is there, whatever its head claims.
const TRUSTED: usize = 1 << 20;
/// As much is kept of the end of a body that is too large: usage stands there.
const TAIL: usize = 16 << 10;

/// The whole body of a good answer, unpacked when it came compressed. Of one that is too large, the usage that `usage_in` finds in
/// it is in the error: it was paid for.
pub(crate) async fn answer(
    reply: &mut Reply,
    target: &Target,
    usage_in: impl Fn(&[u8]) -> Option<Usage>,
) -> Result<Bytes, CallError> {
    let cap = target.max_answer;
    let start = match read(reply, target, cap).await? {
        Read::Whole(body) => return Ok(body),
        Read::TooLarge(start) => start,
    };
    let usage = match usage_in(&start) {
        Some(usage) => Some(usage),
        None => usage_in(&tail(reply, start, cap).await),
    };
    Err(reply.blame(Unfit::too_large("is", cap, "max_answer_mb").with_usage(usage).into_error(target)))
}

/// The whole body; `TooLarge` as soon as it has more than `cap` bytes.
pub(super) async fn whole(reply: &mut Reply, target: &Target, cap: usize) -> Result<Bytes, CallError> {
    match read(reply, target, cap).await? {
        Read::Whole(body) => Ok(body),
        Read::TooLarge(_) => {
            let message = format!("the answer of deployment {} is larger than {cap} bytes", target.name);
            Err(reply.blame(CallError::new(ErrorClass::TooLarge, message)))
        }
    }
}

enum Read {
    Whole(Bytes),
    /// What had arrived by then.
    TooLarge(Bytes),
}

async fn read(reply: &mut Reply, target: &Target, cap: usize) -> Result<Read, CallError> {
    let announced = reply.response.content_length().and_then(|n| usize::try_from(n).ok());
    if announced.is_some_and(|n| n > cap) {
        return Ok(Read::TooLarge(Bytes::new()));
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    loop {
        let chunk = match reply.timer.wait(reply.response.chunk()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => break,
            Ok(Err(error)) => return Err(reply.blame(broken(&error, target))),
            Err(out_of_time) => return Err(reply.blame(out_of_time.into_error(target))),
        };
        let is_too_large = first.len() + rest.len() + chunk.len() > cap;
        // Most answers arrive in one piece, and are not copied.
        if first.is_empty() && rest.is_empty() {
            first = chunk;
        } else {
            if rest.is_empty() {
                rest.reserve(announced.unwrap_or(first.len() * 4).min(TRUSTED));
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&chunk);
        }
        if is_too_large {
            let start = if rest.is_empty() { first } else { rest.freeze() };
            return Ok(Read::TooLarge(start));
        }
    }
    Ok(Read::Whole(if rest.is_empty() { first } else { rest.freeze() }))
}

/// The end of a body that is too large: it is read, and not kept, up to twice `cap`. A body that announces more is left.
async fn tail(reply: &mut Reply, start: Bytes, cap: usize) -> Vec<u8> {
    let announced = reply.response.content_length().and_then(|n| usize::try_from(n).ok());
    let mut tail = start[start.len().saturating_sub(TAIL)..].to_vec();
    let mut left = cap.saturating_mul(2).saturating_sub(start.len());
    drop(start);
    if announced.is_some_and(|n| n > cap.saturating_mul(2)) {
        return tail;
    }
    while let Ok(Ok(Some(chunk))) = reply.timer.wait(reply.response.chunk()).await {
        tail.extend_from_slice(&chunk[chunk.len().saturating_sub(TAIL)..]);
        tail.drain(..tail.len().saturating_sub(TAIL));
        left = left.saturating_sub(chunk.len());
        if left == 0 {
            break;
        }
    }
    tail
}

/// Why a body ended in an error: packed wrongly, or cut.
pub(crate) fn broken(error: &reqwest::Error, target: &Target) -> CallError {
    let name = &target.name;
    if unpackable(error) {
        return CallError::new(ErrorClass::Garbage, format!("the answer of deployment {name} cannot be unpacked"));
    }
    let cause = crate::error::root_cause(error);
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
