//! A streamed answer: passed on piece by piece, and read to its end even if the caller is gone, because its usage must
//! be known. Its resources are returned when its time is over, however slow its reader is.

use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::ErrorClass;
use providers::{AnswerStream, CallError, StreamEvent};

use super::{
    DirectError,
    pipe::{Gone, Inlet},
    request::SyncCall,
};
use crate::{
    Engine,
    failover::{Flight, Origin, Reply, RowEnd},
    meter::Ended,
};

/// In the last 1/`DRAIN_RESERVE_FRACTION` of a call's time, a reader that blocks the stream is dropped, so that the
/// rest can still be read from the provider.
const DRAIN_RESERVE_FRACTION: u32 = 10;
const MAX_DRAIN_RESERVE: Duration = Duration::from_secs(10);

/// How a stream ended.
#[expect(clippy::large_enum_variant, reason = "there is one a stream, and a box would cost an allocation")]
enum Ending {
    Whole,
    Broke(CallError),
    /// The process ends.
    Cut,
}

/// Passes the answer on, and books it.
pub(super) async fn pass_on(
    engine: &Engine,
    call: &SyncCall,
    flight: &mut Flight,
    reply: Reply<AnswerStream>,
    to: Option<Inlet>,
) {
    let Reply { answer: mut stream, began, .. } = reply;
    let Some(attempt) = flight.call.as_ref().map(|call| call.attempt.clone()) else { return };
    let total = attempt.deployment.target.total_timeout;
    let leaves_at = began + total.saturating_sub((total / DRAIN_RESERVE_FRACTION).min(MAX_DRAIN_RESERVE));
    let mut reader = Reader { to, leaves_at };
    let mut cut_off = std::pin::pin!(engine.calls.cut_off());
    let ending = loop {
        let event = tokio::select! {
            biased;
            event = stream.next() => event,
            () = cut_off.as_mut() => break Ending::Cut,
        };
        match event {
            Some(Ok(StreamEvent::Chunk(chunk))) => tokio::select! {
                biased;
                () = reader.take(chunk) => {}
                () = cut_off.as_mut() => break Ending::Cut,
            },
            Some(Ok(StreamEvent::End(_))) | None => break Ending::Whole,
            Some(Err(error)) => break Ending::Broke(error),
        }
    };
    let end = stream.so_far();
    drop(stream);
    let class = match &ending {
        Ending::Whole => None,
        Ending::Broke(error) => Some(error.class),
        Ending::Cut => Some(ErrorClass::Cut),
    };
    let broke = if let Ending::Broke(error) = &ending { Some(error) } else { None };
    let ended = Ended { error: class, ..Ended::streamed(began, Instant::now(), &end, broke) };
    let reported = ended.usage.and_then(|usage| usage.total());
    let Some(row) = flight.row(engine, &call.request(), RowEnd::Ended(ended), true) else { return };
    match class {
        None => flight.admission.answered(row.tokens()),
        Some(class) => flight.admission.broke_off(class, row.tokens(), reported),
    }
    if let Some(error) = broke {
        flight.note_failure(engine, call, &row, error);
    }
    call.book(engine, flight, row).await;
    reader.end(ending);
}

struct Reader {
    to: Option<Inlet>,
    /// When it is dropped, if it blocks the stream.
    leaves_at: Instant,
}

impl Reader {
    async fn take(&mut self, chunk: Bytes) {
        let Some(inlet) = &self.to else { return };
        match tokio::time::timeout_at(self.leaves_at.into(), inlet.send(chunk)).await {
            Ok(Ok(())) => {}
            Ok(Err(Gone)) => self.to = None,
            Err(_) => self.leave("the stream was not read within the time that its call may take (total_timeout_ms)"),
        }
    }

    fn leave(&mut self, message: &str) {
        if let Some(inlet) = self.to.take() {
            inlet.fail(DirectError::Exhausted {
                class: ErrorClass::TotalTimeout,
                message: message.to_owned(),
                retry_after: None,
            });
        }
    }

    fn end(self, ending: Ending) {
        let Some(inlet) = self.to else { return };
        match ending {
            Ending::Whole => {}
            Ending::Broke(error) => {
                let (class, message) = (error.class, error.message);
                inlet.fail(DirectError::Exhausted { class, message, retry_after: None });
            }
            Ending::Cut => inlet.fail(DirectError::cut_off()),
        }
    }
}
