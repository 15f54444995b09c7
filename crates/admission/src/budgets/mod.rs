//! Budgets that cannot be overshot: a call holds the most that it can cost before it starts, of every budget that it is under, and
//! is settled to what it did cost when its ledger row is committed. Held and spent is what this replica was granted: the granter
//! takes grants from Postgres, and gives back what is not needed.

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

/// A caller is kept waiting no longer than this for money that others hold.
pub const ADMISSION_TIMEOUT: Duration = Duration::from_millis(400);
/// And a single look at whether it came takes no longer than this.
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
    /// Of some budget, little is left: what is free goes back at once.
    any_tight: AtomicBool,
    /// When the ledger was last asked what it says of what is used, or when this process began afresh.
    proven: Mutex<Instant>,
    /// Held by whoever talks to Postgres about grants.
    exchange: tokio::sync::Mutex<()>,
    /// Somebody was refused for want of a grant.
    demand: Notify,
    /// Raised whenever there may be something for those who wait.
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

/// How much it matters to the call that it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// Can wait for a moment, or come again.
    CanWait,
    /// Waited long enough: what does not fit now is refused.
    Final,
    /// Nothing else fits: budgets that may be exceeded are.
    AllowOverdraft,
}

impl Budgets {
    pub fn index(&self) -> RwLockReadGuard<'_, BudgetIndex> {
        self.index.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Holds what the call can cost at most, of all budgets that it is under, or of none.
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

    /// A request of a job was refused: the granter is asked for what it lacks, and others of its flow that could start with it, so many
    /// in all; and the claimer hears of it. Whom a part refuses for good is paused.
    pub fn missed(&self, refusal: &Refusal, job: i64, flow: i64, requests: usize) {
        if refusal.rule.sub_budget.is_some() && refusal.is_for_long() {
            self.tripped.push(job, refusal.clone());
        } else if !refusal.is_final() {
            // What it lacks is granted for it, and kept until it comes again.
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

    /// Waits until it is worth trying again.
    pub async fn wait(&self, refusal: &Refusal, mut turn: watch::Receiver<u64>) {
        let _ticket = Ticket::take(&refusal.rule, refusal.asked);
        self.demand.notify_one();
        let _ = tokio::time::timeout(POLL_INTERVAL, turn.changed()).await;
    }

    /// Calls ended: what they held may do for others.
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

    /// Another replica is short of these: what is free here goes back.
    pub fn asked_for(&self, budgets: &[i64]) {
        let sub_budgets = self.sub_budgets.in_use();
        for rule in self.index().rules.iter().chain(&sub_budgets) {
            if rule.known_id().is_some_and(|id| budgets.contains(&id)) {
                rule.state().is_asked = true;
            }
        }
        self.demand.notify_one();
    }

    /// Postgres booked what this process held; it begins afresh.
    pub fn start_over(&self) {
        let sub_budgets = self.sub_budgets.all();
        self.index().rules.iter().chain(&sub_budgets).for_each(|rule| rule.state().start_over());
        // Others book what it held; until that is done, the ledger says nothing of it.
        *self.proven.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Instant::now() + prove::SETTLED_AFTER;
    }

    /// The revision that the replica follows; what a process that begins afresh still does.
    pub fn followed(&self) -> Option<i64> {
        Some(self.followed.load(Ordering::Acquire)).filter(|revision| *revision >= 0)
    }
}

#[cfg(test)]
mod tests;
