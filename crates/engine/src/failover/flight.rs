//! A request on its way through the loop, and the ledger row of its call.

use std::{sync::Arc, time::Instant};

use admission::{Admission, Placement};
use domain::{AttemptReason, Endpoint, ErrorClass, LedgerRow, ids::attempt_id};
use providers::CallError;

use super::{
    Origin, Request,
    tries::{Failed, Tries},
};
use crate::{
    Engine,
    meter::{self, Attempt, Ended, HungUp, Subject},
};
use admission::route::{Blame, Failure};

/// A request on its way: its resources, the call in flight, and the calls made so far.
pub(crate) struct Flight {
    pub admission: Admission,
    pub call: Option<Call>,
    pub tries: Tries,
    pub(super) tried: Vec<Arc<str>>,
    /// True until a deployment has accepted one of its calls: a request that no deployment accepted uses up none of its
    /// caller's limits.
    pub is_for_nothing: bool,
    /// What its last failure was blamed on.
    pub blame: Option<Blame>,
}

/// One call of a request.
pub(crate) struct Call {
    pub attempt: Attempt,
    /// As it stands if nobody learns how the call ended. Taken when that is known.
    row: Option<Box<LedgerRow>>,
    pub began: Instant,
    pub is_sent: bool,
}

impl Call {
    pub fn new(engine: &Engine, subject: &Subject, attempt: Attempt) -> Self {
        let row = Some(Box::new(provisional(engine, subject, &attempt)));
        Self { attempt, row, began: Instant::now(), is_sent: false }
    }

    /// The row that stands if nobody learns how it ended.
    pub fn provisional(&self) -> Option<&LedgerRow> {
        self.row.as_deref()
    }
}

impl Flight {
    /// Of a request that has no deployment yet.
    pub fn new(admission: Admission, tries: Tries) -> Self {
        Self { admission, call: None, tries, tried: Vec::new(), is_for_nothing: true, blame: None }
    }

    /// Of one whose first call was chosen by a claim.
    pub fn placed(admission: Admission, tries: Tries, call: Call) -> Self {
        Self { call: Some(call), ..Self::new(admission, tries) }
    }

    pub(super) fn board(&mut self, engine: &Engine, request: &Request<'_>, placement: Placement) {
        let attempt = self.attempt_at(engine, request.endpoint, &placement);
        self.admission.place(placement);
        self.call = Some(Call::new(engine, request.subject, attempt));
    }

    /// The attempt that is about to be made there.
    fn attempt_at(&self, engine: &Engine, endpoint: Endpoint, placement: &Placement) -> Attempt {
        let last = self.call.as_ref().map(|call| &call.attempt);
        Attempt {
            id: attempt_id(engine.clock.now()),
            no: last.map_or(1, |last| last.no + 1),
            reason: last.map_or(AttemptReason::Primary, |_| AttemptReason::Fallback),
            fallback_from: last.map(|last| Arc::clone(&last.deployment.name)),
            deployment: Arc::clone(&placement.deployment),
            endpoint,
            reserved_at: placement.reserved_at().unwrap_or_else(|| engine.clock.now()),
            reserved: placement.reserved(),
        }
    }

    /// This process no longer acts for the request. The process that does books its call as of unknown outcome, if it
    /// was sent.
    pub fn abandon(self) {
        match self.call.is_some_and(|call| call.is_sent) {
            true => self.admission.forfeit(),
            false => self.admission.release(),
        }
    }

    /// The row of the call under way, ended by `end`; `None` when there is none.
    pub fn row(
        &mut self,
        engine: &Engine,
        request: &Request<'_>,
        end: RowEnd<'_>,
        is_final: bool,
    ) -> Option<LedgerRow> {
        let Call { attempt, row, .. } = self.call.as_mut()?;
        let row = row.take().map_or_else(|| provisional(engine, request.subject, attempt), |row| *row);
        Some(ended_row(engine, request, attempt, row, end, is_final))
    }
}

impl Flight {
    /// What follows from a failed call for its deployment and for its request.
    pub fn note_failure<O: Origin>(&mut self, engine: &Engine, origin: &O, row: &LedgerRow, error: &CallError) {
        self.admission.call_failed(error.class, error.usage.and_then(|usage| usage.total()));
        let Some(call) = &self.call else { return };
        let deployment = Arc::clone(&call.attempt.deployment.name);
        let blame = engine.control.health.failed(Failure {
            deployment: &deployment,
            team: &origin.request().subject.team,
            request: origin.fingerprint(),
            class: error.class,
            retry_after: error.retry_after,
            began: call.began,
        });
        self.tries.failed(Failed { class: error.class, blame, is_paid: row.billable });
        self.blame = Some(blame);
        self.is_for_nothing &= error.class.fault().is_free();
        self.tried.push(deployment);
    }
}

fn provisional(engine: &Engine, subject: &Subject, attempt: &Attempt) -> LedgerRow {
    let now = engine.clock.now();
    // A crash ends a synchronous call; a request of a job runs again.
    let is_final = subject.job_id.is_none();
    LedgerRow { is_final, ..meter::unknown_row(engine.worker_id, subject, attempt, now, now) }
}

/// How a call ended, as its row says it.
#[expect(clippy::large_enum_variant, reason = "there is one a call, and a box would cost an allocation")]
pub(crate) enum RowEnd<'a> {
    Ended(Ended<'a>),
    HungUp {
        began: Instant,
    },
    /// Tollway failed on it: nobody learned how the call ended.
    Panicked,
}

/// The one place where ledger rows of calls are made, from subject, attempt and outcome.
fn ended_row(
    engine: &Engine,
    request: &Request<'_>,
    attempt: &Attempt,
    row: LedgerRow,
    end: RowEnd<'_>,
    is_final: bool,
) -> LedgerRow {
    let of = (request.subject, attempt);
    match end {
        RowEnd::Ended(ended) => meter::finish(row, &engine.clock, request.catalog, of, &ended, is_final),
        RowEnd::HungUp { began } => {
            let now = Instant::now();
            let hung_up = HungUp { at: engine.clock.at(now), after: now.saturating_duration_since(began) };
            LedgerRow { is_final, ..meter::finish_hung_up(row, of, &hung_up) }
        }
        RowEnd::Panicked => {
            let now = engine.clock.now();
            LedgerRow {
                error_class: Some(ErrorClass::Panic.as_str().to_owned()),
                completed_at: now,
                recorded_at: now,
                usage_date: now.date_naive(),
                is_final,
                ..row
            }
        }
    }
}
