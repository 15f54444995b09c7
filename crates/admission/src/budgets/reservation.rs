//! The reservation of one call in all budgets that apply to it, from before it starts until its ledger row is
//! committed.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use chrono::{DateTime, Utc};
use domain::{
    Endpoint, LedgerRow, Money, Tags,
    budget::{Facts, Unit},
};
use foldhash::HashMap;
use pricing::Price;

use super::{
    Refusal, Urgency,
    index::charged,
    rule::{BudgetRule, CellReservation, Outcome},
    sub_budgets::SubBudgets,
};
use crate::{catalog::ActiveDeployment, worst_case};

/// The facts of a call that decide which budgets apply, and how large it can get.
#[derive(Debug, Clone)]
pub struct ReservationRequest {
    pub team: Arc<str>,
    pub key: Arc<str>,
    pub job: Option<i64>,
    /// The most that the job may cost.
    pub max_cost: Option<i128>,
    pub tags: Arc<Tags>,
    pub endpoint: Endpoint,
    pub est_in: i64,
    pub max_out: Option<i64>,
    /// The size is that of the largest request of its flow, which exceeds a whole budget. At most the whole budget is
    /// reserved, and the claim checks the actual request before it is called.
    pub is_oversized: bool,
}

impl ReservationRequest {
    pub(super) fn facts<'a>(&'a self, deployment: &'a ActiveDeployment) -> Facts<'a> {
        Facts {
            team: &self.team,
            key: Some(&self.key),
            job: self.job,
            deployment: &deployment.name,
            provider: deployment.spec.provider_name(),
            tags: &self.tags,
        }
    }

    /// The most that it can use; no money, when there is no price.
    fn worst(&self, deployment: &ActiveDeployment, at: DateTime<Utc>) -> Worst {
        // A price for input alone says nothing about a call with output: such a call has no known worst case.
        let covers = |price: &Price| self.endpoint == Endpoint::Embeddings || price.covers_output();
        let price = worst_case::price(deployment, at).filter(covers);
        let usd = price.map(|price| worst_case::cost_at(&price, deployment, self.est_in, self.max_out));
        Worst {
            usd: usd.map(|usd| i128::from(usd.pico())),
            tokens: worst_case::tokens(deployment, self.endpoint, self.est_in, self.max_out).into(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Worst {
    usd: Option<i128>,
    tokens: i128,
}

impl Worst {
    pub fn of(self, rule: &BudgetRule) -> Option<i128> {
        match rule.unit {
            Unit::Usd => self.usd,
            Unit::Tokens => Some(self.tokens),
        }
    }
}

/// A call that has not ended.
#[derive(Debug)]
pub(super) struct Call {
    ask: ReservationRequest,
    deployment: Arc<ActiveDeployment>,
    at: DateTime<Utc>,
    worst: Worst,
    is_sent: AtomicBool,
    reservations: Mutex<Vec<CellReservation>>,
}

impl Call {
    pub fn new(ask: &ReservationRequest, deployment: &Arc<ActiveDeployment>, at: DateTime<Utc>) -> Self {
        Self {
            ask: ask.clone(),
            deployment: Arc::clone(deployment),
            at,
            worst: ask.worst(deployment, at),
            is_sent: AtomicBool::new(false),
            reservations: Mutex::default(),
        }
    }

    pub fn facts(&self) -> Facts<'_> {
        self.ask.facts(&self.deployment)
    }

    fn reservations(&self) -> MutexGuard<'_, Vec<CellReservation>> {
        self.reservations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves the call in a budget that was declared after it started, whatever is left.
    pub fn adopt(&self, rule: &Arc<BudgetRule>) {
        let held = rule.force(self.worst.of(rule).unwrap_or(0), self.at);
        self.reservations().push(held);
    }

    /// Reserves it in all of the rules and their sub-budgets, or in none.
    pub fn reserve<'r>(
        &self,
        rules: impl Iterator<Item = &'r Arc<BudgetRule>>,
        sub_budgets: &SubBudgets,
        urgency: Urgency,
    ) -> Result<(), Refusal> {
        let mut reservations = self.reservations();
        let taken = self.take_all(rules, sub_budgets, urgency, &mut reservations);
        if taken.is_err() {
            reservations.drain(..).for_each(|held| held.end(Outcome::Charged(0)));
        }
        taken
    }

    fn take_all<'r>(
        &self,
        rules: impl Iterator<Item = &'r Arc<BudgetRule>>,
        sub_budgets: &SubBudgets,
        urgency: Urgency,
        reservations: &mut Vec<CellReservation>,
    ) -> Result<(), Refusal> {
        if let (Some(job), Some(most)) = (self.ask.job, self.ask.max_cost) {
            let sub_budget = sub_budgets.of_job(job, most);
            reservations.push(sub_budget.take(self.worst.of(&sub_budget), self.at, urgency)?);
        }
        for rule in rules {
            let most = if self.ask.is_oversized { rule.budget.cap() } else { i128::MAX };
            let worst = self.worst.of(rule).map(|worst| worst.min(most));
            reservations.push(rule.take(worst, self.at, urgency)?);
            if let Some(sub_budget) = sub_budgets.of(rule, &self.facts()) {
                reservations.push(sub_budget.take_sub_budget(worst, self.at, self.ask.job, urgency)?);
            }
        }
        Ok(())
    }

    fn end(&self, outcome: impl Fn(&BudgetRule) -> Outcome) {
        for held in self.reservations().drain(..) {
            held.end(outcome(&held.rule));
        }
    }
}

/// All calls of this process that have not ended, so that a budget that is declared while they run can count them.
#[derive(Debug, Default)]
pub(super) struct Calls {
    next: AtomicU64,
    under_way: Mutex<HashMap<u64, Arc<Call>>>,
}

impl Calls {
    pub fn all(&self) -> MutexGuard<'_, HashMap<u64, Arc<Call>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn enter(self: &Arc<Self>, call: Call) -> Reservation {
        let (number, worst, call) = (self.next.fetch_add(1, Ordering::Relaxed), call.worst, Arc::new(call));
        self.all().insert(number, Arc::clone(&call));
        Reservation(Some(Open { number, call, worst, calls: Arc::clone(self) }))
    }
}

#[derive(Debug)]
struct Open {
    number: u64,
    call: Arc<Call>,
    /// Of the call as it turned out to be.
    worst: Worst,
    calls: Arc<Calls>,
}

/// Ends by `settle`, `release` or `forfeit`. If it is dropped, it is released when the call was not sent. Otherwise the
/// amount stays used: for a job's request until the ledger has its cost, for a synchronous call for good, because its
/// cost stays unknown.
#[derive(Debug, Default)]
pub struct Reservation(Option<Open>);

impl Reservation {
    /// When the reservation was made. The call is charged to the window of this moment.
    pub fn at(&self) -> Option<DateTime<Utc>> {
        self.0.as_ref().map(|open| open.call.at)
    }

    /// The most that the call can cost; `None` when there is no price.
    pub fn worst_usd(&self) -> Option<Money> {
        let usd = self.0.as_ref()?.worst.usd?;
        Some(Money(i64::try_from(usd).unwrap_or(i64::MAX)))
    }

    /// From here on the call may cost something.
    pub fn mark_sent(&self) {
        if let Some(open) = &self.0 {
            open.call.is_sent.store(true, Ordering::Release);
        }
    }

    /// Lowers the reservation: the call turned out to be smaller.
    pub fn lower(&mut self, est_in: i64, max_out: Option<i64>) {
        let Some(Open { call, worst, .. }) = &mut self.0 else { return };
        if (call.ask.est_in, call.ask.max_out) == (est_in, max_out) {
            return;
        }
        let ask = ReservationRequest { est_in, max_out, ..call.ask.clone() };
        *worst = ask.worst(&call.deployment, call.at);
        for held in call.reservations().iter_mut() {
            if let Some(amount) = worst.of(&held.rule) {
                held.lower(amount);
            }
        }
    }

    /// Its ledger row is committed.
    pub fn settle(mut self, row: &LedgerRow) {
        self.end(|rule| charged(rule.unit, row).map_or(Outcome::Unknown, Outcome::Charged));
    }

    /// The call was not made.
    pub fn release(mut self) {
        self.end(|_| Outcome::Charged(0));
    }

    /// Another process books the call, or has done so: the one that took over its lease.
    pub fn forfeit(mut self) {
        self.end(|_| Outcome::BookedByOthers);
    }

    fn end(&mut self, outcome: impl Fn(&BudgetRule) -> Outcome) {
        if let Some(Open { number, call, calls, .. }) = self.0.take() {
            // Before the reservation ends: a budget that is declared in between counts the call, or finds its row in
            // the ledger.
            call.end(outcome);
            calls.all().remove(&number);
            // One that found it in between.
            call.end(|_| Outcome::Charged(0));
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let Some(call) = self.0.as_ref().map(|open| &open.call) else { return };
        let outcome = match (call.is_sent.load(Ordering::Acquire), call.ask.job) {
            (false, _) => Outcome::Charged(0),
            // What a task of a job leaves when it fails is booked by its layer, or by the reaper.
            (true, Some(_)) => Outcome::BookedByOthers,
            (true, None) => Outcome::Unknown,
        };
        self.end(|_| outcome);
    }
}
