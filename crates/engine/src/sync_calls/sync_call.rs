//! A synchronous call: a caller waits for the answer, and an intent makes it durable while the provider works.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use admission::{Admission, Placement};
use domain::{ErrorClass, Money, attempt::Fault, catalog::LaneRule};
use futures::FutureExt;
use providers::{Answer, AnswerStream, CallError};
use tokio::sync::oneshot;

use super::{
    DirectAnswer, DirectError, admit,
    pipe::pipe,
    request::SyncCall,
    streaming,
    unary::{give_up, refused, render},
};
use crate::{
    Engine, call,
    failover::{self, Booking, Call, Durable, End, Flight, Origin, Reply, Request, RowEnd, Stuck, Tries},
    meter::Ended,
    settle::{Direct as Settled, Op},
};

pub(super) enum Answered {
    Whole(Box<Answer>),
    Stream(Box<AnswerStream>),
}

type Waiting = oneshot::Sender<Result<DirectAnswer, DirectError>>;

impl Origin for SyncCall {
    type Answer = Answered;
    /// Nobody wants the answer when the process ends, and then there is no time left.
    const DRAIN_TIMEOUT: Duration = Duration::ZERO;

    fn request(&self) -> Request<'_> {
        Request {
            subject: &self.subject,
            ask: &self.ask,
            route: &self.route,
            catalog: &self.catalog,
            endpoint: self.endpoint,
        }
    }

    async fn place(&self, engine: &Engine, tried: &[Arc<str>]) -> Result<Placement, Stuck> {
        admit::next(engine, &self.request(), tried).await
    }

    async fn start(&self, engine: &Engine, call: &Call, _: &Tries, failed: Option<Booking>) -> Durable {
        if let Some(Booking { row: ledger, admission }) = failed {
            engine.settler.put(Op::Direct(Box::new(Settled { ledger, admission }))).await;
        }
        call.provisional().map_or(Durable::Lost, |row| Durable::Soon(engine.intents.write(row)))
    }

    async fn call(&self, engine: &Engine, call: &Call) -> Result<Answered, CallError> {
        let attempt = &call.attempt;
        if self.stream {
            let opened = call::stream(engine, &attempt.deployment, self.endpoint, self.text(), attempt.id).await;
            return opened.map(|stream| Answered::Stream(Box::new(stream)));
        }
        let answer = call::once(engine, &attempt.deployment, self.endpoint, self.text(), attempt.id).await;
        answer.map(|answer| Answered::Whole(Box::new(answer)))
    }

    async fn unwanted(&self) {
        self.cut.cancelled().await;
    }

    /// Its intent is written, so it is called, and cut at once.
    fn is_unwanted(&self) -> bool {
        false
    }

    /// A caller whose call failed comes again with the same one.
    fn fingerprint(&self) -> u64 {
        failover::fingerprint(&self.body)
    }
}

/// Makes the call, tells who waits for it, and books it.
pub(super) async fn run(engine: Arc<Engine>, call: SyncCall, admission: Admission, waiting: Waiting) {
    let mut flight = Flight::new(admission, Tries::new(LaneRule::MAX_ATTEMPTS, 0, 0));
    let mut waiting = Some(waiting);
    let driven = AssertUnwindSafe(run_attempts(&engine, &call, &mut flight, &mut waiting)).catch_unwind().await;
    if driven.is_ok() {
        return;
    }
    // Nobody learned how it ended, so it costs what was reserved for it.
    if flight.call.as_ref().is_some_and(|call| call.is_sent)
        && let Some(row) = flight.row(&engine, &call.request(), RowEnd::Panicked, true)
    {
        call.book(&engine, &mut flight, row).await;
    }
    tell(&mut waiting, Err(DirectError::panicked()));
}

fn tell(waiting: &mut Option<Waiting>, answer: Result<DirectAnswer, DirectError>) {
    if let Some(waiting) = waiting.take() {
        let _ = waiting.send(answer);
    }
}

async fn run_attempts(engine: &Engine, call: &SyncCall, flight: &mut Flight, waiting: &mut Option<Waiting>) {
    match failover::run(engine, call, flight).await {
        End::Answered(Reply { answer: Answered::Whole(answer), began, ended, is_durable }) => {
            let reply = Reply { answer: *answer, began, ended, is_durable };
            whole(engine, call, flight, reply, waiting).await;
        }
        End::Answered(Reply { answer: Answered::Stream(answer), began, ended, is_durable }) => {
            let reply = Reply { answer: *answer, began, ended, is_durable };
            streamed(engine, call, flight, reply, waiting).await;
        }
        End::Failed { mut row, error, stuck, is_durable } => {
            if flight.is_for_nothing {
                flight.admission.refund();
            }
            row.is_final = true;
            call.book(engine, flight, row).await;
            let why = match error.class.fault() {
                _ if !is_durable => DirectError::Unavailable,
                Fault::Request => refused(error),
                _ => give_up(Some(error), stuck),
            };
            tell(waiting, Err(why));
        }
        End::Uncalled(stuck) => {
            std::mem::take(&mut flight.admission).release();
            tell(waiting, Err(give_up(None, Some(stuck))));
        }
        End::HungUp { mut row } => {
            row.is_final = true;
            call.book(engine, flight, row).await;
            tell(waiting, Err(DirectError::cut_off()));
        }
        End::Unstarted { .. } => {
            std::mem::take(&mut flight.admission).release();
            tell(waiting, Err(DirectError::Unavailable));
        }
    }
}

async fn whole(
    engine: &Engine,
    call: &SyncCall,
    flight: &mut Flight,
    reply: Reply<Answer>,
    waiting: &mut Option<Waiting>,
) {
    let Reply { answer, began, ended, is_durable } = reply;
    let end = RowEnd::Ended(Ended::answer(began, ended, &answer));
    let Some(row) = flight.row(engine, &call.request(), end, true) else { return };
    flight.admission.answered(row.tokens());
    let cost = row.contracted_cost.map(Money);
    call.book(engine, flight, row).await;
    let Some(attempt) = flight.call.as_ref().map(|call| &call.attempt) else { return };
    if !is_durable {
        return tell(waiting, Err(DirectError::Unavailable));
    }
    let meta = call.meta(attempt, answer.model.clone(), cost);
    tell(waiting, Ok(DirectAnswer::Whole { status: answer.status, body: render(answer, call.text()), meta }));
}

async fn streamed(
    engine: &Engine,
    call: &SyncCall,
    flight: &mut Flight,
    reply: Reply<AnswerStream>,
    waiting: &mut Option<Waiting>,
) {
    // Without an intent nothing may be shown; the call is under way all the same, so it is drained and booked.
    let inlet = match &flight.call {
        Some(made) if reply.is_durable => {
            let meta = call.meta(&made.attempt, reply.answer.so_far().model, None);
            let (inlet, outlet) = pipe();
            tell(waiting, Ok(DirectAnswer::Stream { meta, body: Box::pin(outlet) }));
            Some(inlet)
        }
        _ => {
            tell(waiting, Err(DirectError::Unavailable));
            None
        }
    };
    streaming::pass_on(engine, call, flight, reply, inlet).await;
}

impl DirectError {
    /// The process ends before the call did.
    pub(super) fn cut_off() -> Self {
        Self::Exhausted {
            class: ErrorClass::Overloaded,
            message: "Tollway is being shut down and did not wait for the end of this call; try again".to_owned(),
            retry_after: Some(Duration::from_secs(1)),
        }
    }

    pub(super) fn panicked() -> Self {
        Self::Exhausted {
            class: ErrorClass::Panic,
            message: "Tollway failed on this request".to_owned(),
            retry_after: None,
        }
    }
}
