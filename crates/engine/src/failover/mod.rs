//! The one loop by which a request is called: choose a deployment, make the call durable, call, classify, book, and go on to the
//! next deployment. Requests of jobs, whole answers and streams differ in who waits for the answer, which their [`Origin`] says.
//!
//! Each call has a ledger row from before it starts, as it stands if nobody learns how it ended. The row ends with the call.

mod flight;
mod tries;

use std::{
    hash::{BuildHasher, Hash},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use domain::{Endpoint, ErrorClass, LedgerRow, attempt::Fault, waits::Obstacle};
use foldhash::fast::RandomState;
use providers::CallError;
use tracing::info;

use admission::{
    Admission, Placement,
    budgets::{Refusal, ReservationRequest, Urgency},
    catalog::{ActiveCatalog, ActiveRoute},
    fit,
};
pub(crate) use flight::{Call, Flight, RowEnd};
pub use tries::{Failed, Tries};

use crate::{
    Engine,
    meter::{Ended, Subject},
};
use admission::route::{self, Choice, Next};

/// What to call, and the caller that it is for.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub subject: &'a Subject,
    pub ask: &'a ReservationRequest,
    pub route: &'a ActiveRoute,
    pub catalog: &'a ActiveCatalog,
    pub endpoint: Endpoint,
}

impl Request<'_> {
    /// The deployment that may serve it now, other than those already tried.
    pub fn choose(&self, engine: &Engine, tried: &[Arc<str>], urgency: Urgency) -> Next {
        let choice = Choice {
            route: self.route,
            endpoint: self.endpoint,
            tried,
            lane: &self.subject.lane,
            reserves: &self.catalog.reserves,
            tokens: self.tokens(),
            ask: self.ask,
            now: engine.clock.now(),
            urgency,
        };
        route::next(choice, &engine.control.health, &engine.control.limits, &engine.control.budgets)
    }

    /// For limits in tokens.
    pub fn tokens(&self) -> i64 {
        fit::rate_tokens(self.subject.est_in, self.subject.max_out)
    }

    pub fn is_exhausted(&self, tried: &[Arc<str>]) -> bool {
        self.route.candidates(self.endpoint).all(|d| tried.iter().any(|t| **t == *d.name))
    }
}

/// Why no deployment was found.
#[derive(Debug)]
pub(crate) enum Stuck {
    Wait {
        after: Duration,
        obstacle: Obstacle,
        class: Option<ErrorClass>,
    },
    OverBudget(Refusal),
    /// The database does not answer, so nobody knows whether a limit has room.
    Unknown,
}

/// Whether a call may count on being booked, come what may.
pub(crate) enum Durable {
    Reached,
    /// Its intent is being written; to be waited for before anything is shown.
    Soon(crate::intents::Durable),
    /// The lease is somebody else's: the call must not be made.
    Lost,
}

impl Durable {
    async fn reached(self) -> bool {
        match self {
            Self::Reached => true,
            Self::Soon(intent) => intent.reached().await,
            Self::Lost => false,
        }
    }
}

/// A call that failed, to be booked with the start of the next.
pub(crate) struct Booking {
    pub row: LedgerRow,
    pub admission: Admission,
}

/// How the loop ended. The origin ends the resources of the flight.
#[expect(clippy::large_enum_variant, reason = "there is one a request, and a box would cost an allocation")]
pub(crate) enum End<R> {
    /// No deployment could be found for a first call.
    Uncalled(Stuck),
    /// The call was not made after all: its lease is lost, or nobody wants it any more.
    Unstarted {
        is_lost: bool,
    },
    Answered(Reply<R>),
    /// The last call failed; `stuck` says why there is no next one, if not because this one was the last.
    Failed {
        row: LedgerRow,
        error: CallError,
        stuck: Option<Stuck>,
        is_durable: bool,
    },
    /// Nobody waited any more, and it did not end by itself in time.
    HungUp {
        row: LedgerRow,
    },
}

pub(crate) struct Reply<R> {
    pub answer: R,
    pub began: Instant,
    pub ended: Instant,
    pub is_durable: bool,
}

/// Who waits for a request's answer.
pub(crate) trait Origin: Send + Sync {
    type Answer: Send;
    /// How long an unwanted call is drained, so that its usage is learned. After that it is cut.
    const DRAIN_TIMEOUT: Duration;

    fn request(&self) -> Request<'_>;

    /// The deployment of the next call, with what it holds there; waits for one as long as the origin may.
    fn place(&self, engine: &Engine, tried: &[Arc<str>]) -> impl Future<Output = Result<Placement, Stuck>> + Send;

    /// Makes the call durable, together with the end of the one before.
    fn start(
        &self,
        engine: &Engine,
        call: &Call,
        tries: &Tries,
        failed: Option<Booking>,
    ) -> impl Future<Output = Durable> + Send;

    fn call(&self, engine: &Engine, call: &Call) -> impl Future<Output = Result<Self::Answer, CallError>> + Send;

    /// Resolves when nobody wants the answer any more.
    fn unwanted(&self) -> impl Future<Output = ()> + Send;

    fn is_unwanted(&self) -> bool;

    /// What tells this request from others, where evidence against a deployment is weighed.
    fn fingerprint(&self) -> u64;
}

/// Calls the request until it is answered, fails for good, or has to wait.
pub(crate) async fn run<O: Origin>(engine: &Engine, origin: &O, flight: &mut Flight) -> End<O::Answer> {
    let request = origin.request();
    let mut failed: Option<Booking> = None;
    if flight.call.is_none() {
        match origin.place(engine, &[]).await {
            Ok(placement) => flight.board(engine, &request, placement),
            Err(stuck) => return End::Uncalled(stuck),
        }
    }
    loop {
        let Some(call) = &mut flight.call else { return End::Unstarted { is_lost: false } };
        let durable = origin.start(engine, call, &flight.tries, failed.take()).await;
        let is_lost = matches!(durable, Durable::Lost);
        if is_lost || origin.is_unwanted() {
            engine.control.health.abandoned(&call.attempt.deployment.name, &request.subject.team, Instant::now());
            return End::Unstarted { is_lost };
        }
        (call.began, call.is_sent) = (Instant::now(), true);
        flight.tries.begin();
        flight.admission.mark_sent();
        let called = wait(engine, origin, call, &mut flight.admission).await;
        let (began, ended) = (call.began, Instant::now());
        let Some(result) = called else { return record_cancelled(engine, &request, flight, began) };
        let is_durable = durable.reached().await;
        let error = match result {
            Ok(answer) => {
                engine.control.health.succeeded(&call.attempt.deployment.name, &request.subject.team, began);
                return End::Answered(Reply { answer, began, ended, is_durable });
            }
            Err(error) => error,
        };
        let Some(row) = flight.row(engine, &request, RowEnd::Ended(Ended::error(began, ended, &error)), false) else {
            return End::Unstarted { is_lost: false };
        };
        flight.note_failure(engine, origin, &row, &error);
        let is_last = error.class.fault() == Fault::Request || flight.tries.are_spent();
        if is_last || !is_durable || origin.is_unwanted() {
            return End::Failed { row, error, stuck: None, is_durable };
        }
        let placement = match origin.place(engine, &flight.tried).await {
            Ok(placement) => placement,
            Err(stuck) => return End::Failed { row, error, stuck: Some(stuck), is_durable },
        };
        info!(request.id = %row.request_id, from = %row.deployment, to = %placement.deployment.name,
              error = error.class.as_str(), "Call failed; trying the next deployment");
        failed = Some(Booking { row, admission: flight.admission.split_call() });
        flight.board(engine, &request, placement);
    }
}

/// Waits for the call; `None`: the answer is no longer wanted and did not arrive within the drain.
async fn wait<O: Origin>(
    engine: &Engine,
    origin: &O,
    call: &Call,
    admission: &mut Admission,
) -> Option<Result<O::Answer, CallError>> {
    let called = origin.call(engine, call);
    let mut called = std::pin::pin!(called);
    tokio::select! {
        biased;
        result = called.as_mut() => return Some(result),
        () = origin.unwanted() => {}
    }
    // Learning what the provider bills is worth a short wait, but not resources that others could use.
    admission.leave_place();
    tokio::time::timeout(O::DRAIN_TIMEOUT, called).await.ok()
}

fn record_cancelled<R>(engine: &Engine, request: &Request<'_>, flight: &mut Flight, began: Instant) -> End<R> {
    if let Some(call) = &flight.call {
        engine.control.health.abandoned(&call.attempt.deployment.name, &request.subject.team, began);
    }
    match flight.row(engine, request, RowEnd::HungUp { began }, false) {
        Some(row) => End::HungUp { row },
        None => End::Unstarted { is_lost: false },
    }
}

static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// A fingerprint of what tells a request from others.
pub(crate) fn fingerprint(of: impl Hash) -> u64 {
    SEED.hash_one(of)
}

#[cfg(test)]
mod tests;
