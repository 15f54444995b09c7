//! A call whose answer comes in pieces. Before its first byte it can fall back; after that it ends whole or as an error.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use domain::attempt::Fault;
use providers::{AnswerStream, CallError, StreamEvent};
use tokio::sync::mpsc;

use super::{
    DirectAnswer, DirectError, Meta,
    admit::{self, Admitted},
    whole::{give_up, refused},
};
use crate::{
    Engine,
    budgets::Reservation,
    call,
    limits::Permit,
    meter::{self, Attempt, Ended},
    settle::{Direct as Booking, Op},
};

/// Pieces that wait for a slow reader before the provider is made to wait.
const BUFFER: usize = 64;

pub(super) async fn run(engine: Arc<Engine>, mut admitted: Admitted) -> Result<DirectAnswer, DirectError> {
    let mut tried: Vec<Arc<str>> = Vec::new();
    let mut last: Option<CallError> = None;
    let mut for_nothing = true;
    loop {
        let (deployment, mut permit, reservation) = match admit::next(&engine, &admitted, &tried).await {
            Ok(next) => next,
            Err(stuck) => {
                if for_nothing {
                    admitted.permit.refund();
                }
                return Err(give_up(last, stuck));
            }
        };
        let attempt = admit::attempt(&engine, deployment, &reservation, &tried);
        let now = engine.clock.now();
        let pessimist = meter::unknown_row(engine.worker_id, &admitted.subject, &attempt, now, now);
        let durable = engine.intents.write(&pessimist);
        let started = Instant::now();
        reservation.mark_sent();
        let opened = call::stream(&engine, &attempt.deployment, admitted.endpoint, admitted.text(), attempt.id).await;
        let durable = durable.reached().await;
        match opened {
            Ok(answer) => {
                let so_far = answer.so_far();
                let meta = Meta {
                    request_id: admitted.subject.request_id.clone(),
                    deployment: Arc::clone(&attempt.deployment.name),
                    model: so_far.model.unwrap_or_else(|| attempt.deployment.spec.model.clone()),
                    attempts: attempt.no.unsigned_abs(),
                    cost_usd: None,
                };
                let (send, receive) = mpsc::channel(BUFFER);
                // Without an intent nothing may be shown; the call is under way all the same, so it is drained and booked.
                let send = durable.then_some(send);
                tokio::spawn(pump(engine, admitted, attempt, (permit, reservation), answer, started, send));
                if !durable {
                    return Err(DirectError::Unavailable);
                }
                let chunks = futures::stream::unfold(receive, |mut receive: mpsc::Receiver<_>| async move {
                    receive.recv().await.map(|chunk| (chunk, receive))
                });
                return Ok(DirectAnswer::Stream { meta, body: Box::pin(chunks) });
            }
            Err(error) => {
                permit.failed(error.class, error.usage.and_then(|usage| usage.total()));
                let is_final = error.class.fault() == Fault::Request;
                let ended = Ended::error(started, Instant::now(), &error);
                book(&engine, &admitted, &attempt, reservation, &ended, is_final).await;
                if !durable {
                    return Err(DirectError::Unavailable);
                }
                engine.health.failed(&attempt.deployment.name, error.class, error.retry_after, started);
                if is_final {
                    return Err(refused(error));
                }
                for_nothing &= error.class.fault() == Fault::Outage;
                tried.push(Arc::clone(&attempt.deployment.name));
                last = Some(error);
            }
        }
    }
}

/// Gives the tokens that it used.
async fn book(
    engine: &Engine,
    admitted: &Admitted,
    attempt: &Attempt,
    reservation: Reservation,
    ended: &Ended<'_>,
    is_final: bool,
) -> i64 {
    let row =
        meter::row(engine.worker_id, &engine.clock, &admitted.catalog, &admitted.subject, attempt, ended, is_final);
    let tokens = row.tokens();
    engine.settler.put(Op::Direct(Box::new(Booking { ledger: row, reservation }))).await;
    tokens
}

/// Passes the pieces on, and goes on reading when the caller has gone: what the provider bills must be known.
async fn pump(
    engine: Arc<Engine>,
    mut admitted: Admitted,
    attempt: Attempt,
    (mut permit, reservation): (Permit, Reservation),
    mut answer: AnswerStream,
    started: Instant,
    mut to: Option<mpsc::Sender<Result<Bytes, DirectError>>>,
) {
    let mut failure: Option<CallError> = None;
    while let Some(event) = answer.next().await {
        match event {
            Ok(StreamEvent::Chunk(chunk)) => {
                if let Some(caller) = &to
                    && caller.send(Ok(chunk)).await.is_err()
                {
                    to = None;
                }
            }
            Ok(StreamEvent::End(_)) => break,
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    let end = answer.so_far();
    let ended = Ended {
        started,
        ended: Instant::now(),
        ttft: end.ttft,
        usage: end.usage.or_else(|| failure.as_ref().and_then(|error| error.usage)),
        output_bytes: usize::try_from(end.output_bytes).unwrap_or(usize::MAX),
        model: end.model.as_deref(),
        service_tier: end.service_tier.as_deref(),
        provider_request_id: end.provider_request_id.as_deref(),
        http_status: Some(200),
        error: failure.as_ref().map(|error| error.class),
    };
    let tokens = book(&engine, &admitted, &attempt, reservation, &ended, true).await;
    match &failure {
        None => permit.settle_tokens(tokens),
        Some(error) => permit.failed(error.class, ended.usage.and_then(|usage| usage.total())),
    }
    admitted.permit.settle_tokens(tokens);
    drop(permit);
    match failure {
        None => engine.health.succeeded(&attempt.deployment.name),
        Some(error) => {
            engine.health.failed(&attempt.deployment.name, error.class, error.retry_after, started);
            if let Some(caller) = to {
                let lost = DirectError::Exhausted { class: error.class, message: error.message, retry_after: None };
                let _ = caller.send(Err(lost)).await;
            }
        }
    }
}
