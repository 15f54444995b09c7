//! Budgets that cannot be overshot. Before a call starts, its worst-case cost is reserved in every budget that applies
//! to it; when its ledger row is committed, the reservation is settled at the actual cost. A replica reserves and
//! spends from its own grants, which the granter takes from Postgres and returns when they are not needed.

mod account;
mod burn_rate;
mod change;
mod collect_demand;
mod grant_round;
mod granter;
mod hard;
mod in_force;
mod index;
mod new_job_check;
mod prove;
mod refusal;
mod reservation;
mod revision_watch;
mod rule;
mod spend;
mod standing;
mod sub_budget;
mod sub_budgets;
mod sustained_shortage;
mod sweep;
mod take;
mod tripped;
mod windows;

use std::{
    sync::{
        Arc, Mutex, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use tokio::sync::{Notify, watch};

pub use burn_rate::Burnt;
pub use burn_rate::sample;
pub use change::{BudgetError, follow_file, remove, set, standing_of};
pub use granter::{give_back, look};
pub use in_force::InForce;
pub use new_job_check::{Asker, used_up};
pub use prove::prove_left;
pub use refusal::{Refusal, Why};
pub use reservation::{Reservation, ReservationRequest};
pub use revision_watch::{follow, keep_following};
pub use spend::{RowsOf, book as book_rows};
pub use standing::{BudgetStanding, show, show_with_last, shown, verify};
pub use sub_budget::{SubBudget, SubBudgetOf};
pub use sweep::sweep;
pub use windows::{cells, rolling_cells};

use self::{
    index::BudgetIndex,
    reservation::{Call, Calls},
    rule::{Ticket, Unmet},
    sub_budgets::SubBudgets,
    tripped::Tripped,
};
use crate::catalog::ActiveDeployment;

/// How long a synchronous call waits for money that is reserved or granted elsewhere.
pub const ADMISSION_TIMEOUT: Duration = Duration::from_millis(400);
/// How often a waiting call checks again, even without a signal.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub struct Budgets {
    index: RwLock<BudgetIndex>,
    calls: Arc<Calls>,
    sub_budgets: SubBudgets,
    tripped: Tripped,
    /// The revision that Postgres knows this replica to follow; below zero: none.
    followed: AtomicI64,
    /// Some budget's past spend is not counted yet.
    uncounted: AtomicBool,
    /// At least one budget is nearly used up: unused grants are returned at once.
    any_tight: AtomicBool,
    /// When the used amounts were last compared with the ledger, or when this process registered again.
    proven: Mutex<Instant>,
    /// Serialises the exchanges with Postgres about grants.
    exchange: tokio::sync::Mutex<()>,
    /// Notified when a call was refused for lack of a grant.
    demand: Notify,
    /// Raised whenever there may be something for waiting calls.
    turn: watch::Sender<u64>,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            index: RwLock::default(),
            calls: Arc::default(),
            sub_budgets: SubBudgets::default(),
            tripped: Tripped::default(),
            followed: AtomicI64::new(-1),
            uncounted: AtomicBool::new(false),
            any_tight: AtomicBool::new(false),
            proven: Mutex::new(Instant::now()),
            exchange: tokio::sync::Mutex::default(),
            demand: Notify::new(),
            turn: watch::Sender::new(0),
        }
    }
}

/// How urgently a call has to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// The call can wait or retry.
    CanWait,
    /// The last try: a call that does not fit now is refused.
    Final,
    /// No deployment fits: soft budgets may be exceeded.
    AllowOverdraft,
}

impl Budgets {
    pub fn index(&self) -> RwLockReadGuard<'_, BudgetIndex> {
        self.index.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Reserves the worst-case cost of the call in all budgets that apply to it, or in none.
    pub fn reserve(
        &self,
        ask: &ReservationRequest,
        deployment: &Arc<ActiveDeployment>,
        at: DateTime<Utc>,
        urgency: Urgency,
    ) -> Result<Reservation, Refusal> {
        let call = Call::new(ask, deployment, at);
        // Held until the call is among those under way: a book that comes after finds it there.
        let index = self.index();
        call.reserve(index.of(&call.facts()), &self.sub_budgets, urgency)?;
        Ok(self.calls.enter(call))
    }

    /// Records that a request of a job was refused. The granter requests the missing amount for all `requests` of its
    /// flow that could start, and notifies the claimer. A job that a sub-budget refuses for good is paused.
    pub fn missed(&self, refusal: &Refusal, job: i64, flow: i64, requests: usize) {
        if refusal.rule.sub_budget.is_some() && refusal.is_for_long() {
            self.tripped.push(job, refusal.clone());
        } else if !refusal.is_final() {
            // A grant made for it is kept until its next retry.
            let mut state = refusal.rule.state();
            state.unmet.insert(flow, Unmet { asked: refusal.asked, requests });
            if refusal.rule.sub_budget.is_some() {
                state.asking.insert(job, refusal.asked);
            }
            drop(state);
            self.demand.notify_one();
        }
    }

    /// To be taken before the try that [`Self::wait`] follows.
    pub fn turn(&self) -> watch::Receiver<u64> {
        self.turn.subscribe()
    }

    /// Waits until a retry may succeed.
    pub async fn wait(&self, refusal: &Refusal, mut turn: watch::Receiver<u64>) {
        let _ticket = Ticket::take(&refusal.rule, refusal.asked);
        self.demand.notify_one();
        let _ = tokio::time::timeout(POLL_INTERVAL, turn.changed()).await;
    }

    /// Calls ended: their reservations may be enough for waiting calls.
    pub fn freed(&self) {
        if self.index().is_empty() && self.sub_budgets.is_empty() {
            return;
        }
        self.turn.send_modify(|turn| *turn += 1);
        if self.any_tight.load(Ordering::Acquire) {
            self.demand.notify_one();
        }
    }

    /// Calls for which something is reserved.
    pub fn under_way(&self) -> usize {
        self.calls.all().len()
    }

    /// Another replica is short of these budgets: this replica returns its unused grants.
    pub fn asked_for(&self, budgets: &[i64]) {
        let sub_budgets = self.sub_budgets.in_use();
        for rule in self.index().rules.iter().chain(&sub_budgets) {
            if rule.known_id().is_some_and(|id| budgets.contains(&id)) {
                rule.state().is_asked = true;
            }
        }
        self.demand.notify_one();
    }

    /// Postgres booked the reservations of this process, which starts over without them.
    pub fn start_over(&self) {
        let sub_budgets = self.sub_budgets.all();
        self.index().rules.iter().chain(&sub_budgets).for_each(|rule| rule.state().start_over());
        // Other processes book its reservations; until they have, the ledger does not contain them.
        *self.proven.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Instant::now() + prove::SETTLED_AFTER;
    }

    /// The revision that the replica follows; what a process that begins afresh still does.
    pub fn followed(&self) -> Option<i64> {
        Some(self.followed.load(Ordering::Acquire)).filter(|revision| *revision >= 0)
    }
}

#[cfg(test)]
mod tests;
