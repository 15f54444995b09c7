//! One budget as this replica sees it: its grants in the cells in use, the demand that waits, and the last known state
//! of the whole budget.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use domain::{
    Budget,
    budget::{Facts, Length, Policy, Span, Unit},
};
use store::budget::SubBudgetKey;

use super::{account::Account, sub_budget::SubBudget, sustained_shortage::SustainedShortage};

/// A sub-budget without use for this long is forgotten: the database has its spend. One with an exempted job is kept
/// longer, because learning of the exemption again costs the job a refusal.
const IDLE_RETENTION: Duration = Duration::from_secs(5);
const LIFTED_RETENTION: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub struct BudgetRule {
    /// As it is declared; 0: a part, which has its own.
    pub id: i64,
    pub name: Arc<str>,
    pub budget: Budget,
    pub unit: Unit,
    pub policy: Policy,
    /// Of another budget, which it is a part of.
    pub sub_budget: Option<SubBudget>,
    /// Outlives a change of the budget's amount.
    pub(super) state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Raised when this process registers again: reservations from before are booked by other processes.
    pub epoch: u64,
    /// Raised when the limit was changed: earlier grants must not be spent any more.
    pub sheds: u64,
    pub cells: Vec<Cell>,
    pub waiting: BTreeMap<u64, i128>,
    pub next_ticket: u64,
    /// Unmet demand of jobs since the last round, by flow: a flow that retries many times counts once.
    pub unmet: BTreeMap<i64, Unmet>,
    /// Of a part: the jobs that asked in vain since the last round, each with the most that its request can cost.
    pub asking: BTreeMap<i64, i128>,
    /// Of a guard's part: the jobs that it holds back.
    pub shortages: BTreeMap<i64, SustainedShortage>,
    /// Granted for them, and kept until their next retry.
    pub kept: i128,
    /// For how many ticks more.
    pub kept_ticks: u32,
    /// What was taken in this tick, and in the one before.
    pub recent: i128,
    pub before: i128,
    /// A call was refused since the last tick, so the view has to be renewed.
    pub was_refused: bool,
    pub view: Option<View>,
    /// When a call last held something of it.
    pub used_at: Option<Instant>,
    /// Approved jobs, which the guard exempts until then.
    pub lifted: BTreeMap<i64, DateTime<Utc>>,
    /// What the last call reserved; an idle replica keeps enough for the next one of that size.
    pub last: i128,
    /// Another replica is short of it: unused grants are returned.
    pub is_asked: bool,
    /// When other replicas were asked for what is free there.
    pub asked_at: Option<Instant>,
}

/// What a flow lacks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unmet {
    /// The most that one request of it can cost.
    pub asked: i128,
    /// How many of them could start.
    pub requests: usize,
}

#[derive(Debug)]
pub(super) struct Cell {
    pub span: Span,
    pub account: Account,
    /// What the database had of this replica already is in the account.
    pub is_loaded: bool,
    /// As the database knows it.
    pub written: Option<Account>,
    /// Reservations that ended here and are booked by another process: the ledger will have their cost shortly.
    pub doubts: Vec<(Instant, i128)>,
    /// Amounts of calls that are not in the ledger and whose cost is unknown.
    pub unknown: i128,
    /// What the ledger had beyond the account when it was compared last.
    pub missing: i128,
}

/// How a call that held something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Its row is in the ledger. Nothing, when it was not made.
    Charged(i128),
    /// The process that took over its lease or its intent books it.
    BookedByOthers,
    /// The cost is unknown, to the ledger as well.
    Unknown,
}

/// How the window stood.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub at: Instant,
    pub is_open: bool,
    pub is_tight: bool,
    /// What is neither spent nor held.
    pub left: i128,
    /// The most that one call could be granted if every reservation were returned.
    pub possible: i128,
}

/// An amount held in one cell.
#[derive(Debug)]
pub(super) struct CellReservation {
    pub rule: Arc<BudgetRule>,
    pub cell: DateTime<Utc>,
    pub amount: i128,
    pub epoch: u64,
}

impl BudgetRule {
    pub(super) fn new(id: i64, name: &str, budget: Budget, state: Arc<Mutex<State>>) -> Self {
        let (unit, policy) = (budget.unit(), budget.policy());
        Self { id, name: name.into(), budget, unit, policy, sub_budget: None, state }
    }

    /// By which the database knows it; `None`: it does not yet.
    pub(super) fn known_id(&self) -> Option<i64> {
        self.sub_budget.as_ref().map_or(Some(self.id), SubBudget::id)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The part that a call is under, and the cell of it.
    pub(super) fn sub_budget_of(&self, facts: &Facts<'_>, at: DateTime<Utc>) -> Option<(SubBudgetKey, DateTime<Utc>)> {
        let guard = self.budget.guard?;
        let key = SubBudgetKey { budget_id: self.id, subject: guard.subject(facts)?, per_s: guard.per.seconds() };
        Some((key, guard.window().span(Tz::UTC, at).start))
    }

    pub(super) fn span(&self, at: DateTime<Utc>) -> Span {
        self.budget.window.span(self.budget.time_zone, at)
    }
}

impl State {
    /// The cell of this moment. Few are in use: the current one, and those of calls that began before it.
    pub fn cell(&mut self, rule: &BudgetRule, at: DateTime<Utc>) -> &mut Cell {
        let n = match self.cells.iter().rposition(|cell| cell.span.contains(at)) {
            Some(n) => n,
            None => {
                self.cells.push(Cell::new(rule.span(at)));
                // A new window: nothing is known of it yet.
                self.view = None;
                self.cells.len() - 1
            }
        };
        &mut self.cells[n]
    }

    /// Gives up the unreserved grant because the limit was changed: it is granted again under the new limit.
    pub fn shed(&mut self) {
        self.sheds += 1;
        self.kept = 0;
        // How it stood says nothing of how it stands.
        self.view = None;
        self.cells.iter_mut().for_each(|cell| cell.account.keep(0));
    }

    /// Nothing is reserved, there was no recent demand, and the database has all of its state.
    pub fn is_idle(&self) -> bool {
        let is_unused = |account: Account| account.reserved == 0 && account.free() == 0;
        let is_over = |cell: &Cell| is_unused(cell.account) && cell.written == Some(cell.account) && cell.is_certain();
        let is_old = self
            .used_at
            .is_none_or(|at| at.elapsed() > if self.lifted.is_empty() { IDLE_RETENTION } else { LIFTED_RETENTION });
        self.waiting.is_empty() && self.unmet.is_empty() && is_old && self.cells.iter().all(is_over)
    }

    fn of(&mut self, held: &CellReservation) -> Option<&mut Cell> {
        if self.epoch != held.epoch {
            return None;
        }
        self.cells.iter_mut().find(|cell| cell.span.start == held.cell)
    }

    /// A job asked; `is_short`: demand exceeds the sub-budget. Returns whether that has lasted for a sustained time;
    /// the time then starts over.
    pub fn note_shortage(&mut self, job: i64, per: Length, is_short: bool, now: DateTime<Utc>) -> bool {
        self.shortages.retain(|_, one| one.is_recent(per, now));
        let before = self.shortages.remove(&job);
        if !is_short {
            return false;
        }
        let shortage = SustainedShortage::again(before, per, now);
        if !shortage.is_for_long(per) {
            self.shortages.insert(job, shortage);
        }
        shortage.is_for_long(per)
    }

    /// Exempts the job from the guard until then.
    pub fn lift(&mut self, job: i64, until: DateTime<Utc>) {
        self.lifted.insert(job, until);
        self.used_at = Some(Instant::now());
    }

    /// The reservations of this process are booked by others from now on.
    pub fn start_over(&mut self) {
        self.epoch += 1;
        self.cells.clear();
        self.view = None;
    }
}

impl Cell {
    fn new(span: Span) -> Self {
        Self {
            span,
            account: Account::default(),
            is_loaded: false,
            written: None,
            doubts: Vec::new(),
            unknown: 0,
            missing: 0,
        }
    }

    /// What is used of it is what the ledger says, and what calls under way hold.
    pub fn is_certain(&self) -> bool {
        self.doubts.is_empty() && self.unknown == 0
    }
}

impl CellReservation {
    pub fn end(&self, outcome: Outcome) {
        let mut state = self.rule.state();
        let Some(cell) = state.of(self) else { return };
        match outcome {
            Outcome::Charged(charged) => cell.account.settle(self.amount, charged),
            Outcome::BookedByOthers => {
                cell.account.forfeit(self.amount);
                cell.doubts.push((Instant::now(), self.amount));
            }
            Outcome::Unknown => {
                cell.account.forfeit(self.amount);
                cell.unknown += self.amount;
            }
        }
    }

    /// It needs less than it holds.
    pub fn lower(&mut self, amount: i128) {
        let surplus = self.amount - amount;
        if surplus > 0
            && let Some(cell) = self.rule.state().of(self)
        {
            cell.account.settle(surplus, 0);
            self.amount = amount;
        }
    }
}

/// Somebody waits for an amount, as long as this exists.
#[derive(Debug)]
pub(super) struct Ticket {
    rule: Arc<BudgetRule>,
    number: u64,
}

impl Ticket {
    pub fn take(rule: &Arc<BudgetRule>, amount: i128) -> Self {
        let mut state = rule.state();
        let number = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.insert(number, amount);
        drop(state);
        Self { rule: Arc::clone(rule), number }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.rule.state().waiting.remove(&self.number);
    }
}
