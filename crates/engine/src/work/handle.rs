//! One claimed request, from its first call to its end: call, on failure the next deployment, at last settle.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use apalis::prelude::{BoxDynError, Data};
use domain::{AttemptReason, AttemptStatus, ErrorClass, attempt::Fault, ids::attempt_id};
use providers::{Answer, CallError};
use store::{complete::NewResult, lease::Advance, retry::NewRetry};
use tokio::sync::oneshot;
use tracing::info;

use crate::{
    Engine,
    budgets::{Pressing, Reservation},
    call::{self, Outcome},
    claim::Request,
    meter::{self, Attempt, Ended, Subject},
    route::{self, Choice, Next},
    settle::{Op, Release, Settlement, Then},
};

pub(super) async fn handle(request: Arc<Request>, engine: Data<Arc<Engine>>) -> Result<(), BoxDynError> {
    let stop = engine.fence.running();
    tokio::select! {
        biased;
        // Somebody else holds its lease by now: the reaper books what was called, and it runs again elsewhere.
        () = stop.cancelled() => drop(request.take_hold()),
        // In a box: each of apalis's layers moves the future that it wraps.
        () = Box::pin(drive(&engine, &request)) => {}
    }
    Ok(())
}

async fn drive(engine: &Arc<Engine>, request: &Request) {
    if !engine.fence.may_start() {
        return release(engine, request).await;
    }
    let subject = request.subject();
    let mut tried: Vec<Arc<str>> = Vec::new();
    let (mut deployments_blamed, mut for_nothing) = (true, true);
    let job = engine.fence.jobs.enter(request.job.job_id);
    loop {
        if job.is_stopped() {
            return release(engine, request).await;
        }
        let (attempt, began) = (request.attempt(), Instant::now());
        request.mark_sent();
        let outcome = tokio::select! {
            biased;
            outcome = call::once(engine, &attempt.deployment, request.job.endpoint, &request.body, attempt.id) => outcome,
            () = job.stopped() => return hung_up(engine, request, &subject, &attempt, began).await,
        };
        let error = match &outcome.result {
            Ok(_) => return succeed(engine, request, &subject, &attempt, outcome).await,
            Err(error) => error,
        };
        request.call_failed(error);
        deployments_blamed &=
            engine.health.failed(&attempt.deployment.name, error.class, error.retry_after, outcome.started);
        if error.class.fault() == Fault::Request {
            return fail(engine, request, &subject, &attempt, &outcome).await;
        }
        for_nothing &= error.class.fault() == Fault::Outage;
        tried.push(Arc::clone(&attempt.deployment.name));
        let choice = Choice {
            route: &request.job.route,
            endpoint: request.job.endpoint,
            tried: &tried,
            lane: &request.job.lane,
            reserves: &request.job.catalog.reserves,
            tokens: request.tokens(),
            ask: &request.job.ask(i64::from(request.est_in), request.max_out.map(i64::from)),
            now: engine.clock.now(),
            pressing: Pressing::Patient,
        };
        match route::next(choice, &engine.health, &engine.limits, &engine.budgets) {
            Next::Use(next, permit, reservation) => {
                info!(request.id = %subject.request_id, from = %attempt.deployment.name, to = %next.name, error = error.class.as_str(),
                      "Call failed; trying the next deployment");
                let following = Attempt {
                    id: attempt_id(engine.clock.now()),
                    no: attempt.no + 1,
                    reason: AttemptReason::Fallback,
                    fallback_from: Some(Arc::clone(&attempt.deployment.name)),
                    deployment: next,
                    reserved_at: reservation.at().unwrap_or_else(|| engine.clock.now()),
                };
                if !advance(engine, request, &subject, &attempt, &outcome, &following).await {
                    permit.cancel();
                    engine.health.unheard(&following.deployment.name, Instant::now());
                    return drop(request.take_hold());
                }
                request.swap_reservation(reservation);
                request.swap_deployment(permit);
                request.set_attempt(following);
            }
            Next::Wait { after, .. } => {
                if for_nothing {
                    request.refund();
                }
                return later(engine, request, &subject, &attempt, &outcome, after, deployments_blamed).await;
            }
            // It waits with its flow.
            Next::Broke(_) => {
                return later(engine, request, &subject, &attempt, &outcome, Duration::ZERO, deployments_blamed).await;
            }
        }
    }
}

/// Books the failed attempt and moves the lease to the next, committed before that is called.
async fn advance(
    engine: &Engine,
    request: &Request,
    subject: &Subject,
    attempt: &Attempt,
    outcome: &Outcome,
    next: &Attempt,
) -> bool {
    let (held, answer) = oneshot::channel();
    let advance = Advance {
        key: request.key,
        attempt_no: next.no,
        attempt_id: next.id,
        deployment: next.deployment.name.to_string(),
    };
    let ledger = Box::new(ledger_row(engine, request, subject, attempt, outcome, false));
    let reservation = request.swap_reservation(Reservation::default());
    let job_id = request.job.job_id;
    engine.settler.put(Op::Advance { advance, job_id, ledger, reservation, held: Some(held) }).await;
    answer.await.unwrap_or(false)
}

fn ledger_row(
    engine: &Engine,
    request: &Request,
    subject: &Subject,
    attempt: &Attempt,
    outcome: &Outcome,
    is_final: bool,
) -> domain::LedgerRow {
    let ended = match &outcome.result {
        Ok(answer) => Ended::answer(outcome.started, outcome.ended, answer),
        Err(error) => Ended::error(outcome.started, outcome.ended, error),
    };
    meter::row(engine.worker_id, &engine.clock, &request.job.catalog, subject, attempt, &ended, is_final)
}

async fn succeed(engine: &Engine, request: &Request, subject: &Subject, attempt: &Attempt, outcome: Outcome) {
    let ledger = ledger_row(engine, request, subject, attempt, &outcome, true);
    let mut hold = request.take_hold();
    hold.caller.settle_tokens(ledger.tokens());
    hold.deployment.settle_tokens(ledger.tokens());
    let Ok(answer) = outcome.result else { return };
    let result = result_of(request, attempt, answer);
    let settlement =
        Settlement { key: request.key, job_id: request.job.job_id, ledger, then: Then::Result(result), hold };
    engine.settler.put(Op::Settle(Box::new(settlement))).await;
}

fn result_of(request: &Request, attempt: &Attempt, answer: Answer) -> NewResult {
    let (vectors, dims) = match answer.vectors {
        Some(vectors) => (Some(vectors.data), Some(vectors.dims as i32)),
        None => (None, None),
    };
    NewResult {
        job_id: request.job.job_id,
        line: request.line,
        custom_id: request.custom_id.clone(),
        ok: true,
        attempts: attempt.no,
        status_code: Some(i32::from(answer.status)),
        request_id: answer.provider_request_id.as_deref().map(meter::storable),
        deployment: Some(attempt.deployment.name.to_string()),
        endpoint: request.job.endpoint.code(),
        body: Some(answer.body),
        base64: vectors.is_some() && providers::wants_base64(&request.body),
        vectors,
        dims,
        error_class: None,
        error_message: None,
    }
}

fn failure_of(
    request: &Request,
    attempt: &Attempt,
    class: ErrorClass,
    message: String,
    error: Option<&CallError>,
) -> NewResult {
    NewResult {
        job_id: request.job.job_id,
        line: request.line,
        custom_id: request.custom_id.clone(),
        ok: false,
        attempts: attempt.no,
        status_code: error.and_then(|e| e.http_status).map(i32::from),
        request_id: error.and_then(|e| e.provider_request_id.as_deref()).map(meter::storable),
        deployment: Some(attempt.deployment.name.to_string()),
        endpoint: request.job.endpoint.code(),
        body: error.and_then(|e| e.body.clone()),
        vectors: None,
        dims: None,
        base64: false,
        error_class: Some(class.as_str()),
        error_message: Some(meter::storable(&message)),
    }
}

/// The request's own fault, or its last try: its final result is a failure.
async fn fail(engine: &Engine, request: &Request, subject: &Subject, attempt: &Attempt, outcome: &Outcome) {
    let Err(error) = &outcome.result else { return };
    let ledger = ledger_row(engine, request, subject, attempt, outcome, true);
    let result = failure_of(request, attempt, error.class, error.message.clone(), Some(error));
    let settlement = Settlement {
        key: request.key,
        job_id: request.job.job_id,
        ledger,
        then: Then::Result(result),
        hold: request.take_hold(),
    };
    engine.settler.put(Op::Settle(Box::new(settlement))).await;
}

/// All deployments failed it for now. An outage costs it no try; a try of its own fault counts, and the last ends it.
async fn later(
    engine: &Engine,
    request: &Request,
    subject: &Subject,
    attempt: &Attempt,
    outcome: &Outcome,
    after: Duration,
    blameless: bool,
) {
    let Err(error) = &outcome.result else { return };
    let failures = request.failures + i16::from(!blameless);
    if failures >= request.job.max_attempts {
        return fail(engine, request, subject, attempt, outcome).await;
    }
    let pause = after.max(request.job.backoff.after(failures.unsigned_abs().into()));
    let retry = retry_of(engine, request, attempt, failures, pause, error.class.as_str());
    let ledger = ledger_row(engine, request, subject, attempt, outcome, false);
    let settlement = Settlement {
        key: request.key,
        job_id: request.job.job_id,
        ledger,
        then: Then::Retry(retry),
        hold: request.take_hold(),
    };
    engine.settler.put(Op::Settle(Box::new(settlement))).await;
}

fn retry_of(
    engine: &Engine,
    request: &Request,
    attempt: &Attempt,
    failures: i16,
    pause: Duration,
    why: &str,
) -> NewRetry {
    NewRetry {
        flow_id: request.key.flow_id,
        pos: request.key.pos,
        epoch: request.key.epoch + 1,
        attempt_no: attempt.no,
        failures,
        due_at: engine.clock.now() + pause,
        last_error: Some(why.to_owned()),
        last_deployment: Some(attempt.deployment.name.to_string()),
    }
}

/// Back to the queue, uncalled.
pub(crate) async fn release(engine: &Engine, request: &Request) {
    let attempt = request.attempt();
    let mut retry = retry_of(engine, request, &attempt, request.failures, Duration::ZERO, "handed back");
    retry.attempt_no -= 1;
    engine.health.unheard(&attempt.deployment.name, Instant::now());
    let mut hold = request.take_hold();
    std::mem::take(&mut hold.caller).cancel();
    std::mem::take(&mut hold.deployment).cancel();
    engine
        .settler
        .put(Op::Release(Box::new(Release { key: request.key, job_id: request.job.job_id, retry, hold })))
        .await;
}

/// Its job was cancelled while the provider worked. What was sent is charged as held, for nobody will learn how it ended; the
/// request is counted as cancelled when its job ends, as everything that then waits.
async fn hung_up(engine: &Engine, request: &Request, subject: &Subject, attempt: &Attempt, began: Instant) {
    engine.health.unheard(&attempt.deployment.name, began);
    let now = Instant::now();
    let mut ledger =
        meter::unknown_row(engine.worker_id, subject, attempt, engine.clock.at(began), engine.clock.at(now));
    ledger.status = AttemptStatus::Cancelled.as_str().to_owned();
    ledger.error_class = None;
    ledger.latency_ms = Some(now.saturating_duration_since(began).as_millis() as i64);
    let then = Then::Retry(retry_of(engine, request, attempt, request.failures, Duration::ZERO, "cancelled"));
    let settlement =
        Settlement { key: request.key, job_id: request.job.job_id, ledger, then, hold: request.take_hold() };
    engine.settler.put(Op::Settle(Box::new(settlement))).await;
}

/// The handler panicked. What it had called is booked as of unknown outcome; the try counts, so that a poisonous request ends.
pub(super) async fn settle_panic(engine: &Engine, request: &Request) {
    let (subject, attempt) = (request.subject(), request.attempt());
    let now = engine.clock.at(Instant::now());
    let mut ledger = meter::unknown_row(engine.worker_id, &subject, &attempt, attempt.reserved_at, now);
    ledger.error_class = Some(ErrorClass::Panic.as_str().to_owned());
    let failures = request.failures + 1;
    let then = if failures >= request.job.max_attempts {
        ledger.is_final = true;
        let message = "Tollway failed on this request; it was set aside".to_owned();
        Then::Result(failure_of(request, &attempt, ErrorClass::Panic, message, None))
    } else {
        let pause = request.job.backoff.after(failures.unsigned_abs().into());
        Then::Retry(retry_of(engine, request, &attempt, failures, pause, ErrorClass::Panic.as_str()))
    };
    let settlement =
        Settlement { key: request.key, job_id: request.job.job_id, ledger, then, hold: request.take_hold() };
    engine.settler.put(Op::Settle(Box::new(settlement))).await;
}
