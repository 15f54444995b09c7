//! One claimed request, from its first call to its end: the loop in `failover` calls it, and the outcome is settled.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use admission::Placement;
use admission::{
    budgets::{ReservationRequest, Urgency},
    fit::NeverFits,
};
use apalis::prelude::{BoxDynError, Data};
use domain::{ErrorClass, LedgerRow, attempt::Fault};
use futures::FutureExt;
use providers::{Answer, CallError};
use store::{lease::Advance, retry::NewRetry, settlement::NewResult};
use tokio::sync::oneshot;

use crate::{
    Engine, call,
    claim::Request,
    failover::{self, Booking, Call, Durable, End, Failed, Flight, Origin, Reply, RowEnd, Stuck, Tries},
    meter::{self, Ended, Subject},
    settle::{Op, Release, Settlement, Then},
    stops::Entered,
};
use admission::route::{Blame, Next};

/// A request that may itself break its deployment backs off for this much longer than the deployment cools, so that
/// another request becomes the probe.
const SUSPECT_BACKOFF: Duration = Duration::from_secs(1);

/// A job waits for the answer: its lease makes the calls durable, and it may be cancelled meanwhile.
struct Leased<'a> {
    request: &'a Request,
    subject: Subject,
    ask: ReservationRequest,
    job: Entered<'a>,
}

impl Origin for Leased<'_> {
    type Answer = Answer;
    /// A cancelled job ends no sooner than its calls, so this is short.
    const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

    fn request(&self) -> failover::Request<'_> {
        let job = &self.request.job;
        failover::Request {
            subject: &self.subject,
            ask: &self.ask,
            route: &job.route,
            catalog: &job.catalog,
            endpoint: job.endpoint,
        }
    }

    /// It does not wait here: without a deployment it goes back to the queue.
    async fn place(&self, engine: &Engine, tried: &[Arc<str>]) -> Result<Placement, Stuck> {
        match self.request().choose(engine, tried, Urgency::CanWait) {
            Next::Use(placement) => Ok(placement),
            Next::Wait { after, obstacle, class } => Err(Stuck::Wait { after, obstacle, class }),
            Next::OverBudget(refusal) => Err(Stuck::OverBudget(refusal)),
        }
    }

    /// The claim leased the first call; for each other the lease moves on, together with the row of the one before.
    async fn start(&self, engine: &Engine, call: &Call, tries: &Tries, failed: Option<Booking>) -> Durable {
        let Some(Booking { row, admission }) = failed else { return Durable::Reached };
        let (held, answer) = oneshot::channel();
        let advance = Advance {
            key: self.request.key,
            attempt_no: call.attempt.no,
            attempt_id: call.attempt.id,
            deployment: call.attempt.deployment.name.to_string(),
            failures: tries.used(),
        };
        let (job_id, ledger) = (self.request.job.job_id, Box::new(row));
        engine.settler.put(Op::Advance { advance, job_id, ledger, admission, held: Some(held) }).await;
        if answer.await.unwrap_or(false) { Durable::Reached } else { Durable::Lost }
    }

    async fn call(&self, engine: &Engine, call: &Call) -> Result<Answer, CallError> {
        let attempt = &call.attempt;
        call::once(engine, &attempt.deployment, attempt.endpoint, &self.request.body, attempt.id).await
    }

    async fn unwanted(&self) {
        self.job.stopped().await;
    }

    fn is_unwanted(&self) -> bool {
        self.job.is_stopped()
    }

    fn fingerprint(&self) -> u64 {
        failover::fingerprint((self.request.job.job_id, self.request.line))
    }
}

pub(super) async fn handle(request: Arc<Request>, engine: Data<Arc<Engine>>) -> Result<(), BoxDynError> {
    // In a box: each of apalis's layers moves the future that it wraps.
    Box::pin(run(&engine, &request)).await;
    Ok(())
}

async fn run(engine: &Engine, request: &Request) {
    if !engine.fence.may_start() {
        return release(engine, request).await;
    }
    let leased = Leased {
        request,
        subject: request.subject(),
        ask: request.job.ask(i64::from(request.est_in), request.max_out.map(i64::from)),
        job: engine.fence.jobs.enter(request.job.job_id),
    };
    let tries = Tries::new(request.job.max_attempts, request.failures, request.first.no - 1);
    let call = Call::new(engine, &leased.subject, request.first.clone());
    let mut flight = Flight::placed(request.take_admission(), tries, call);
    if let Some(never) = &request.never_fits {
        return leased.refuse(engine, flight, never).await;
    }
    let stop = engine.fence.running();
    let end = tokio::select! {
        biased;
        // The lease has passed to another process: the reaper books the calls made, and the request runs again
        // elsewhere.
        () = stop.cancelled() => return flight.abandon(),
        end = AssertUnwindSafe(failover::run(engine, &leased, &mut flight)).catch_unwind() => end,
    };
    match end {
        Ok(End::Answered(reply)) => leased.succeed(engine, flight, reply).await,
        Ok(End::Failed { row, error, stuck, .. }) => leased.fail(engine, flight, row, &error, stuck.as_ref()).await,
        Ok(End::HungUp { row }) => {
            let retry = leased.retry(engine, &flight, Duration::ZERO, "cancelled");
            leased.settle(engine, flight, row, Then::Retry(retry)).await;
        }
        // The earlier calls are booked, and the permits and the reservation of the next call are returned.
        Ok(End::Unstarted { is_lost: true }) => flight.admission.release_call(),
        Ok(End::Unstarted { is_lost: false } | End::Uncalled(_)) => leased.hand_back(engine, flight).await,
        Err(_) => leased.panicked(engine, flight).await,
    }
}

impl Leased<'_> {
    async fn settle(&self, engine: &Engine, flight: Flight, ledger: LedgerRow, then: Then) {
        let (key, job_id) = (self.request.key, self.request.job.job_id);
        let settlement = Settlement { key, job_id, ledger, then, admission: flight.admission };
        engine.settler.put(Op::Settle(Box::new(settlement))).await;
    }

    async fn succeed(&self, engine: &Engine, mut flight: Flight, reply: Reply<Answer>) {
        let Reply { answer, began, ended, .. } = reply;
        let end = RowEnd::Ended(Ended::answer(began, ended, &answer));
        let Some(ledger) = flight.row(engine, &self.request(), end, true) else { return };
        flight.admission.answered(ledger.tokens());
        let result = self.result(&ledger, answer);
        self.settle(engine, flight, ledger, Then::Result(result)).await;
    }

    /// The request's own fault, or its last try, is its result. Otherwise it is tried again later.
    async fn fail(
        &self,
        engine: &Engine,
        mut flight: Flight,
        mut ledger: LedgerRow,
        error: &CallError,
        stuck: Option<&Stuck>,
    ) {
        flight.tries.end_round();
        if error.class.fault() == Fault::Request || flight.tries.are_spent() {
            ledger.is_final = true;
            let result = self.failure(&ledger, error.class, error.message.clone(), Some(error));
            return self.settle(engine, flight, ledger, Then::Result(result)).await;
        }
        let after = match stuck {
            Some(Stuck::Wait { after, .. }) => {
                if flight.is_for_nothing {
                    flight.admission.refund();
                }
                // A fault that only an operator can fix lasts long: the request waits with its flow, which shows the
                // reason.
                if error.class.fault() == Fault::Operator { Duration::ZERO } else { *after }
            }
            Some(Stuck::OverBudget(_) | Stuck::Unknown) | None => Duration::ZERO,
        };
        // The next probe is for another request, if there is one: this one may be what makes the deployment fail.
        let is_suspect = flight.blame == Some(Blame::Deployment) && !error.class.fault().is_free();
        let after = if is_suspect { (2 * after).max(after + SUSPECT_BACKOFF) } else { after };
        let pause = after.max(self.request.job.backoff.after(flight.tries.used().unsigned_abs().into()));
        let retry = self.retry(engine, &flight, pause, error.class.as_str());
        self.settle(engine, flight, ledger, Then::Retry(retry)).await;
    }

    /// Back to the queue, without the call that was about to be made.
    async fn hand_back(&self, engine: &Engine, flight: Flight) {
        let mut retry = self.retry(engine, &flight, Duration::ZERO, "handed back");
        retry.attempt_no -= 1;
        let (key, job_id) = (self.request.key, self.request.job.job_id);
        let release = Release { key, job_id, retry, admission: flight.admission };
        engine.settler.put(Op::Release(Box::new(release))).await;
    }

    /// Tollway failed on it. What it had called is booked as of unknown outcome; the try counts, so that a poisonous request ends.
    async fn panicked(&self, engine: &Engine, mut flight: Flight) {
        let Some(mut ledger) = flight.row(engine, &self.request(), RowEnd::Panicked, false) else { return };
        flight.tries.failed(Failed { class: ErrorClass::Panic, blame: Blame::Request, is_paid: true });
        let then = if flight.tries.are_spent() {
            ledger.is_final = true;
            let message = "Tollway failed on this request; it was set aside".to_owned();
            Then::Result(self.failure(&ledger, ErrorClass::Panic, message, None))
        } else {
            let pause = self.request.job.backoff.after(flight.tries.used().unsigned_abs().into());
            Then::Retry(self.retry(engine, &flight, pause, ErrorClass::Panic.as_str()))
        };
        self.settle(engine, flight, ledger, then).await;
    }

    /// It can never start: it exceeds a limit or a budget that was lowered after its submission.
    async fn refuse(&self, engine: &Engine, mut flight: Flight, never: &NeverFits) {
        let now = Instant::now();
        engine.control.health.abandoned(&self.request.first.deployment.name, &self.request.job.team, now);
        let error = CallError::new(ErrorClass::InvalidRequest, never.to_string());
        let end = RowEnd::Ended(Ended::error(now, now, &error));
        let Some(ledger) = flight.row(engine, &self.request(), end, true) else { return };
        flight.admission.release_call();
        flight.admission.refund();
        let result = self.failure(&ledger, error.class, error.message.clone(), Some(&error));
        self.settle(engine, flight, ledger, Then::Result(result)).await;
    }

    fn retry(&self, engine: &Engine, flight: &Flight, pause: Duration, why: &str) -> NewRetry {
        let attempt = flight.call.as_ref().map_or(&self.request.first, |call| &call.attempt);
        NewRetry {
            flow_id: self.request.key.flow_id,
            pos: self.request.key.pos,
            epoch: self.request.key.epoch + 1,
            attempt_no: attempt.no,
            failures: flight.tries.used(),
            due_at: engine.clock.now() + pause,
            last_error: Some(why.to_owned()),
            last_deployment: Some(attempt.deployment.name.to_string()),
        }
    }

    fn result(&self, ledger: &LedgerRow, answer: Answer) -> NewResult {
        let base64 = answer.vectors.is_some() && providers::wants_base64(&self.request.body);
        let (vectors, dims) = answer.vectors.map(|vectors| (vectors.data, vectors.dims as i32)).unzip();
        NewResult {
            ok: true,
            status_code: Some(i32::from(answer.status)),
            request_id: answer.provider_request_id.as_deref().map(meter::storable),
            body: Some(answer.body),
            base64,
            vectors,
            dims,
            ..self.blank(ledger)
        }
    }

    fn failure(&self, ledger: &LedgerRow, class: ErrorClass, message: String, error: Option<&CallError>) -> NewResult {
        NewResult {
            status_code: error.and_then(|e| e.http_status).map(i32::from),
            request_id: error.and_then(|e| e.provider_request_id.as_deref()).map(meter::storable),
            body: error.and_then(|e| e.body.clone()),
            error_class: Some(class.as_str()),
            error_message: Some(meter::storable(&message)),
            ..self.blank(ledger)
        }
    }

    fn blank(&self, ledger: &LedgerRow) -> NewResult {
        NewResult {
            job_id: self.request.job.job_id,
            line: self.request.line,
            custom_id: self.request.custom_id.clone(),
            ok: false,
            attempts: ledger.attempt_no,
            status_code: None,
            request_id: None,
            deployment: Some(ledger.deployment.clone()),
            endpoint: self.request.job.endpoint.code(),
            body: None,
            vectors: None,
            dims: None,
            base64: false,
            error_class: None,
            error_message: None,
        }
    }
}

/// Back to the queue, uncalled.
pub(crate) async fn release(engine: &Engine, request: &Request) {
    let attempt = &request.first;
    engine.control.health.abandoned(&attempt.deployment.name, &request.job.team, Instant::now());
    let retry = NewRetry {
        flow_id: request.key.flow_id,
        pos: request.key.pos,
        epoch: request.key.epoch + 1,
        attempt_no: attempt.no - 1,
        failures: request.failures,
        due_at: engine.clock.now(),
        last_error: Some("handed back".to_owned()),
        last_deployment: Some(attempt.deployment.name.to_string()),
    };
    let (key, job_id) = (request.key, request.job.job_id);
    let release = Release { key, job_id, retry, admission: request.take_admission() };
    engine.settler.put(Op::Release(Box::new(release))).await;
}
