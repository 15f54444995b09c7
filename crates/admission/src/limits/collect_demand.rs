//! Collects what one round asks of each limit: the demand, and the unused grants to return.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use store::limit::{Answer, Want};

use crate::granter::GRANT_RETENTION_TICKS;

use super::{Kind, LimitRule, refused::View, rule::State};

/// After this many idle ticks, grants beyond the allotment are returned.
const IDLE_TICKS: u32 = 4;
/// The recorded peak use is halved after this many ticks, that is, each minute.
const PEAK_HALF_LIFE_TICKS: u32 = 240;
/// The least allotment, in calls.
const MIN_ALLOTMENT: i64 = 2;

/// Why a round is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// Time has passed.
    Tick,
    /// A call was refused, or another replica sent a message.
    Demand,
}

/// One limit's part of a round.
#[derive(Debug)]
pub(super) struct Pending {
    pub rule: Arc<LimitRule>,
    pub want: Want,
    /// Requests of jobs asked for some of it.
    pub is_for_jobs: bool,
    asked: Instant,
}

/// The demand of one limit, if there is any. Grants that are to be returned are given up from here on.
pub(super) fn collect_demand(rule: &Arc<LimitRule>, occasion: Occasion) -> Option<Pending> {
    let mut state = rule.state();
    if occasion == Occasion::Tick {
        state.idle_ticks = state.idle_ticks.saturating_add(1);
    }
    if std::mem::take(&mut state.is_freed) && state.waited_for > 0 && state.unmet == 0 {
        // Requests of jobs will retry: the missing amount is requested for them now.
        state.refuse_again();
    }
    let want = match rule.kind {
        Kind::Slots => slots(&mut state, occasion),
        Kind::Rpm | Kind::Tpm => rate(&mut state, occasion),
    };
    let (largest, is_for_jobs, needs_word) = (state.largest, state.is_for_jobs, state.needs_word);
    let asks = state.unmet > 0;
    if occasion == Occasion::Tick {
        (state.ticks, state.spent) = (state.ticks.wrapping_add(1), 0);
        if state.ticks.is_multiple_of(PEAK_HALF_LIFE_TICKS) {
            state.lately /= 2;
        }
    }
    (state.unmet, state.largest, state.is_news, state.is_asked) = (0, 0, false, false);
    (state.is_for_jobs, state.needs_word) = (false, false);
    let want = Want { limit_id: rule.id, generation: rule.generation, largest, asks, needs_word, ..want? };
    Some(Pending { rule: Arc::clone(rule), want, is_for_jobs, asked: Instant::now() })
}

fn slots(state: &mut State, occasion: Occasion) -> Option<Want> {
    let (busy, spare) = (state.busy(), state.spare(state.lately - state.used));
    let is_tick = occasion == Occasion::Tick;
    let is_wanted = state.view.is_some_and(|view| view.is_wanted);
    let surplus = state.granted - busy;
    let is_at_rest = state.idle_ticks > IDLE_TICKS && surplus > spare.saturating_mul(2);
    let gives_back = surplus > 0 && (is_wanted || is_tick && (state.is_tight() || is_at_rest));
    // Calls ended that were more than it may have by now.
    let is_over = (is_tick || is_wanted) && state.recorded > state.granted.max(state.used);
    let is_stale = is_tick && state.idle_ticks > 1 && state.told_busy > busy;
    let is_news = state.is_news && (state.recorded > 0 || state.view.is_none());
    if !(state.unmet > 0 || state.is_asked || gives_back || is_over || is_stale || is_news) {
        return None;
    }
    // What it may use until the answer arrives; near the limit that is less than its grant.
    let kept =
        if state.is_asked || state.is_news || state.is_tight() { state.used } else { busy.saturating_add(spare) };
    state.granted = state.granted.min(kept.max(state.used));
    Some(Want { used: state.used, busy, spare, floor: state.granted, ..Want::default() })
}

fn rate(state: &mut State, occasion: Occasion) -> Option<Want> {
    let is_tick = occasion == Occasion::Tick;
    state.lately = state.lately.max(if is_tick { state.spent } else { 0 });
    let (busy, spare) = (state.rate_busy(), state.spare(state.lately.saturating_mul(2)));
    let is_at_rest = is_tick && state.idle_ticks > IDLE_TICKS && state.granted > spare.saturating_mul(2);
    let kept = if state.is_asked || is_tick && state.is_tight() {
        busy.max(if is_tick { state.spent } else { 0 })
    } else if is_at_rest {
        spare.max(busy)
    } else {
        state.granted
    };
    if state.granted > kept {
        state.returned = state.returned.saturating_add(state.granted - kept);
        state.granted = kept.max(0);
    }
    // What it will run out of in the next tick, and what the bucket is kept short of for no reason.
    let is_low = is_tick && state.spent > 0 && !state.is_tight() && state.granted < state.spent.min(spare);
    let is_over = is_tick && state.recorded > state.granted.saturating_mul(2).saturating_add(spare);
    let is_stale = is_tick && state.idle_ticks > 1 && state.told_busy > busy;
    let returns = state.returned != 0 && (is_tick || state.unmet > 0 || state.view.is_some_and(|view| view.is_wanted));
    if !(state.unmet > 0 || state.is_asked || state.is_news || is_low || is_over || is_stale || returns) {
        return None;
    }
    // What calls give back from here on goes to the bucket.
    state.recorded = state.granted;
    let returned = std::mem::take(&mut state.returned);
    Some(Want { busy, spare, floor: state.granted, returned, ..Want::default() })
}

impl State {
    fn is_tight(&self) -> bool {
        self.view.is_some_and(|view| view.is_tight)
    }

    /// Others may count something as held here.
    pub fn holds_anything(&self) -> bool {
        self.recorded > 0 || self.used > 0 || self.told_busy > 0 || self.returned != 0
    }

    /// Promised to a job's request that comes again.
    fn promised(&self) -> i64 {
        if self.idle_ticks <= GRANT_RETENTION_TICKS { self.waited_for } else { 0 }
    }

    /// Slots in use, and waited for or promised.
    fn busy(&self) -> i64 {
        self.used.saturating_add(self.unmet.max(self.promised()))
    }

    fn rate_busy(&self) -> i64 {
        if self.unmet > 0 { self.unmet } else { self.promised() }
    }

    /// The spare grant for calls still to come; 0 near the limit.
    fn spare(&self, lately: i64) -> i64 {
        let is_wanted = self.is_asked || self.is_tight();
        if is_wanted && self.unmet == 0 {
            0
        } else {
            lately.max(self.last.max(self.largest).max(1).saturating_mul(MIN_ALLOTMENT))
        }
    }

    fn refuse_again(&mut self) {
        let lacks = self.told_busy.saturating_sub(self.granted).max(self.waited_for);
        self.unmet = lacks;
        self.largest = self.largest.max(self.waited_for);
        self.is_for_jobs = true;
    }
}

impl Pending {
    /// Applies a committed answer. Since the round began, calls may have taken part of the grant, and others may have
    /// ended.
    pub fn take_in(&self, answer: &Answer) {
        let mut state = self.rule.state();
        state.told_busy = self.want.busy;
        match self.rule.kind {
            Kind::Slots => {
                state.granted = answer.granted;
                state.recorded = answer.granted.max(self.want.floor);
            }
            Kind::Rpm | Kind::Tpm => {
                state.granted = state.granted.saturating_add(answer.granted);
                state.recorded = state.recorded.saturating_add(answer.granted);
            }
        }
        let cap = state.cap as f64;
        state.view = (!answer.is_outdated).then(|| View {
            asked: self.asked,
            left: answer.left,
            per_s: (cap * 0.9 / 60.0).max(f64::MIN_POSITIVE),
            burst: (cap / 10.0).max(1.0),
            idle_elsewhere: answer.idle_elsewhere,
            word_of: answer
                .oldest_word
                .map(|age| self.asked.checked_sub(age).unwrap_or(self.asked - Duration::from_secs(1))),
            is_tight: answer.is_tight,
            is_wanted: answer.is_wanted,
        });
    }

    /// It is unknown whether the round was committed: the replica keeps what it would have in either case.
    pub fn fail(&self) {
        let mut state = self.rule.state();
        match self.rule.kind {
            Kind::Slots => state.recorded = i64::MAX,
            Kind::Rpm | Kind::Tpm => state.returned = state.returned.saturating_add(self.want.returned.min(0)),
        }
        // The next tick says it again.
        state.is_news = true;
    }
}
