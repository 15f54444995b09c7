//! One limit as this replica sees it: its grant, its use, and the last known state of the whole limit.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{Kind, Refused, refused::View, signals::Signals};

/// The kind of request that a limit refused, which decides whether a grant is kept for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiter {
    /// A job's request: it retries within seconds, and its grant is kept until then.
    Job,
    /// A synchronous call: it waits briefly and is then refused.
    Caller,
}

#[derive(Debug)]
pub struct LimitRule {
    pub id: i64,
    /// Raised when the limit is set again, which makes a new rule of a rate.
    pub generation: i64,
    pub scope: Arc<str>,
    pub kind: Kind,
    pub(super) state: Mutex<State>,
    signals: Arc<Signals>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    /// Slots: how many may be in use. Rates: what is left to spend.
    pub granted: i64,
    /// Slots in use now. More than were granted, after the cap was lowered, until calls have ended.
    pub used: i64,
    /// Slots: what the database holds for this replica. Rates: the most that it can hold unspent, by what the database knows.
    pub recorded: i64,
    /// Of slots in use and waited for, what the database was told last.
    pub told_busy: i64,
    /// The cap as it was last read. A new one is news for the granter.
    pub cap: i64,
    pub is_news: bool,
    /// What was refused since the granter last looked, and the largest single part of it.
    pub unmet: i64,
    pub largest: i64,
    /// Of that, some was for requests of jobs.
    pub is_for_jobs: bool,
    /// A synchronous call waits for certainty that the limit is full: other replicas are asked to report.
    pub needs_word: bool,
    /// When a call was last refused: freed capacity is then signalled.
    pub refused_at: Option<Instant>,
    /// Rates: what was spent since the last tick.
    pub spent: i64,
    /// Rates: what calls gave back that the database does not count as held here; below zero, what they used beyond what they took.
    pub returned: i64,
    /// Ticks since anything was taken or refused, and all of them.
    pub idle_ticks: u32,
    pub ticks: u32,
    /// What a job's request was refused, or returned because another rule refused it, since the last one was admitted:
    /// its retry will need this amount.
    pub waited_for: i64,
    /// Slots in use at once, or the rate's spend in a tick, at the highest; it fades. And what the last call took.
    pub lately: i64,
    pub last: i64,
    /// Another replica is short of it: it is told what is used here, and given the rest.
    pub is_asked: bool,
    /// Another replica gave something back.
    pub is_freed: bool,
    pub view: Option<View>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            granted: 0,
            used: 0,
            recorded: 0,
            told_busy: 0,
            cap: i64::MAX,
            is_news: false,
            unmet: 0,
            largest: 0,
            is_for_jobs: false,
            needs_word: false,
            refused_at: None,
            spent: 0,
            returned: 0,
            idle_ticks: 0,
            ticks: 0,
            waited_for: 0,
            lately: 0,
            last: 0,
            is_asked: false,
            is_freed: false,
            view: None,
        }
    }
}

/// A caller that was refused longer ago than this no longer waits.
const WAITER_TIMEOUT: Duration = Duration::from_millis(500);

impl LimitRule {
    /// Of no table: granted by the replica itself.
    pub(super) fn new(id: i64, scope: &str, kind: Kind) -> Self {
        Self::of(id, 0, scope, kind, Arc::default())
    }

    pub(super) fn of(id: i64, generation: i64, scope: &str, kind: Kind, signals: Arc<Signals>) -> Self {
        Self { id, generation, scope: scope.into(), kind, state: Mutex::default(), signals }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// By hand: all that the rule was granted.
    pub fn grant(&self, amount: i64) {
        let mut state = self.state();
        (state.granted, state.recorded) = (amount, amount);
    }

    /// What of the grants is free.
    pub fn left(&self) -> i64 {
        self.state().granted
    }

    /// The cap as it was read. What `is_news` is told to the database in the next round.
    pub(super) fn follow(&self, cap: i64, is_news: bool) {
        let mut state = self.state();
        state.cap = cap;
        state.is_news |= is_news;
    }

    /// What a call of so many tokens takes: of a rate no more than a minute of it, so that what one call owes is paid within a minute.
    fn amount(&self, state: &State, tokens: i64) -> i64 {
        if self.kind == Kind::Tpm { tokens.clamp(1, state.cap.max(1)) } else { 1 }
    }

    fn fits(&self, state: &State, amount: i64) -> bool {
        match self.kind {
            Kind::Slots => state.used < state.granted,
            Kind::Rpm | Kind::Tpm => state.granted >= amount,
        }
    }

    /// The amount that was taken.
    pub(super) fn take(&self, tokens: i64, waiter: Waiter) -> Result<i64, Refused> {
        let mut state = self.state();
        let amount = self.amount(&state, tokens);
        state.idle_ticks = 0;
        if !self.fits(&state, amount) {
            state.refuse(amount, waiter);
            return Err(self.refusal(&state, amount));
        }
        (state.waited_for, state.last) = (0, amount);
        match self.kind {
            Kind::Slots => {
                state.used += 1;
                state.lately = state.lately.max(state.used);
            }
            Kind::Rpm | Kind::Tpm => {
                state.granted -= amount;
                state.spent = state.spent.saturating_add(amount);
            }
        }
        Ok(amount)
    }

    /// Asks for what a call lacks of this rule, if it lacks it, without taking anything.
    pub(super) fn want(&self, tokens: i64, waiter: Waiter) {
        let mut state = self.state();
        let amount = self.amount(&state, tokens);
        if !self.fits(&state, amount) {
            let waited_for = state.waited_for;
            state.refuse(amount, waiter);
            // Nothing is kept for a request that something else keeps from starting.
            state.waited_for = waited_for;
        }
    }

    /// Whether a call would be refused, and by what is known of the whole.
    pub(super) fn check(&self, tokens: i64) -> Result<(), Refused> {
        let state = self.state();
        let amount = self.amount(&state, tokens);
        if self.fits(&state, amount) { Ok(()) } else { Err(self.refusal(&state, amount)) }
    }

    fn refusal(&self, state: &State, amount: i64) -> Refused {
        let held = if self.kind == Kind::Slots { 0 } else { state.granted };
        let (scope, kind, cap, is_local) = (Arc::clone(&self.scope), self.kind, state.cap, self.id == 0);
        Refused { scope, kind, cap, amount, held, is_local, view: state.view }
    }

    /// As if this rule refused `amount`.
    pub fn refuses(&self, amount: i64) -> Refused {
        self.refusal(&self.state(), amount)
    }

    /// Undoes a take that led to no call: a refused call uses up no limit.
    pub(super) fn undo(&self, amount: i64, waiter: Waiter) {
        let mut state = self.state();
        if waiter == Waiter::Job {
            state.waited_for = state.waited_for.max(amount);
        }
        match self.kind {
            Kind::Slots => self.free(&mut state),
            Kind::Rpm | Kind::Tpm => {
                state.spent = state.spent.saturating_sub(amount);
                state.give_back(amount);
            }
        }
    }

    /// Frees a slot, and signals calls that wait for one, here or on another replica.
    pub(super) fn free(&self, state: &mut State) {
        state.used -= 1;
        if state.refused_at.is_some_and(|at| at.elapsed() < WAITER_TIMEOUT) {
            self.signals.changed();
        }
        if state.view.is_some_and(|view| view.is_wanted) {
            self.signals.demand.notify_one();
        }
    }
}

impl State {
    fn refuse(&mut self, amount: i64, waiter: Waiter) {
        self.unmet = self.unmet.saturating_add(amount);
        self.largest = self.largest.max(amount);
        self.refused_at = Some(Instant::now());
        match waiter {
            Waiter::Job => {
                self.waited_for = self.waited_for.max(amount);
                self.is_for_jobs = true;
            }
            Waiter::Caller => self.needs_word = true,
        }
    }

    /// Of a rate. What the database counts as held here can be spent again at once; the rest goes back to the bucket first.
    pub(super) fn give_back(&mut self, amount: i64) {
        let here = amount.min(self.recorded.saturating_sub(self.granted)).max(0);
        self.granted = self.granted.saturating_add(here);
        self.returned = self.returned.saturating_add(amount.saturating_sub(here));
    }
}

#[cfg(test)]
mod tests;
