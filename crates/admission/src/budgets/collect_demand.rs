//! Collects what one round asks of each budget: the demand, the changes, and the amounts to return.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use domain::budget::{Length, Policy, Window};
use store::budget::GrantRequest;

use super::{
    account::Account,
    rule::{BudgetRule, State, Unmet},
};

/// An idle replica keeps a grant for this many calls of the size of the last one, so that the first call after a pause
/// needs no extra round trip.
const ALLOTMENT: i128 = 2;

/// Why a round is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// Time has passed.
    Tick,
    /// Somebody waits.
    Demand,
    /// Budgets are new here.
    News,
    /// The process ends.
    End,
}

/// A cell that the round is about, as it stood when it was asked for.
pub(super) struct Pending {
    pub rule: Arc<BudgetRule>,
    pub ask: GrantRequest,
    pub account: Account,
    pub needs: Vec<i128>,
    /// Of the needs, those of requests of jobs, together.
    pub for_jobs: i128,
    /// Of a part: whose they are.
    pub asking: BTreeMap<i64, i128>,
    pub recent: i128,
    pub epoch: u64,
    pub sheds: u64,
    pub is_loaded: bool,
    pub is_current: bool,
}

/// The demand of one budget. Unreserved grants are given up here, before Postgres records it: in the other order, a
/// call could still spend what another replica has been granted.
pub(super) fn collect_demand(
    state: &mut State,
    rule: &Arc<BudgetRule>,
    now: DateTime<Utc>,
    occasion: Occasion,
    pending: &mut Vec<Pending>,
) {
    // A part that came this moment.
    let Some(id) = rule.known_id() else { return };
    let waits = !state.waiting.is_empty() || !state.unmet.is_empty();
    if state.cells.is_empty() && !waits {
        return;
    }
    let passes = rule.policy == Policy::Alert;
    let is_tight = state.view.is_some_and(|view| view.is_tight);
    let is_idle = !waits && state.recent == 0 && state.before == 0;
    let is_asked = std::mem::take(&mut state.is_asked);
    // A part is forgotten once nothing is held of it.
    let allotment = if rule.sub_budget.is_some() { 0 } else { state.last * ALLOTMENT };
    let mut needs: Vec<i128> = state.waiting.values().copied().collect();
    let mut for_jobs = 0;
    for Unmet { asked, requests } in std::mem::take(&mut state.unmet).into_values() {
        for_jobs += asked * requests as i128;
        needs.extend(std::iter::repeat_n(asked, requests));
    }
    let mut asking = std::mem::take(&mut state.asking);
    let (recent, was_refused) = (state.recent.max(state.before), state.was_refused);
    if occasion == Occasion::Tick {
        state.kept_ticks = state.kept_ticks.saturating_sub(1);
        if state.kept_ticks == 0 {
            state.kept = 0;
        }
        (state.before, state.recent, state.was_refused) = (state.recent, 0, false);
    }
    if waits {
        state.cell(rule, now);
    }
    let (kept, epoch, sheds) = (state.kept, state.epoch, state.sheds);
    for cell in &mut state.cells {
        let is_current = cell.span.contains(now);
        let account = &mut cell.account;
        if !is_current || passes || occasion == Occasion::End {
            account.keep(0);
        } else if is_tight || is_asked {
            // Also when somebody waits here: what is too little for him may do for others.
            account.keep(kept);
        } else if is_idle && occasion == Occasion::Tick {
            account.keep(kept.max(allotment));
        }
        let is_short = is_current && !passes && recent > 0 && account.free() * 2 < recent && !is_tight;
        let is_news = cell.written != Some(*account) && occasion != Occasion::Demand;
        let gives_back = cell.written.is_some_and(|written| account.granted < written.granted);
        let asks = is_current && (waits || was_refused && occasion == Occasion::Tick);
        // How tight it is, others decide too. What a replica that rests keeps, they ask for.
        let wonders = is_current && occasion == Occasion::Tick && account.free() > 0 && !is_idle;
        if !(asks || is_short || is_news || gives_back || wonders) {
            continue;
        }
        let until = match rule.budget.window {
            // Others' clocks may be a little ahead.
            Window::Rolling(_) => cell.span.end + TimeDelta::days(1),
            _ => cell.span.start,
        };
        pending.push(Pending {
            rule: Arc::clone(rule),
            ask: GrantRequest { budget_id: id, cell: cell.span.start, since: cell.span.since, until },
            account: *account,
            needs: if is_current && !passes { needs.clone() } else { Vec::new() },
            for_jobs: if is_current { for_jobs } else { 0 },
            asking: if is_current { std::mem::take(&mut asking) } else { BTreeMap::new() },
            recent: if is_current && !passes && occasion != Occasion::End { recent } else { 0 },
            epoch,
            sheds,
            is_loaded: cell.is_loaded,
            is_current,
        });
    }
    forget_ended(state, rule, now);
}

/// Forgets the cells of past windows in which nothing is reserved or doubtful and whose state the database has.
fn forget_ended(state: &mut State, rule: &BudgetRule, now: DateTime<Utc>) {
    state.cells.retain(|cell| {
        let is_over = cell.span.end <= now && cell.account.reserved == 0;
        // What nobody knows of a window that rolls counts as long as it looks back on it.
        let lasts = rule.budget.window.length().map_or(0, Length::seconds);
        let is_past = cell.is_certain() || cell.doubts.is_empty() && cell.span.end + TimeDelta::seconds(lasts) <= now;
        !(is_over && is_past && cell.written == Some(cell.account))
    });
}
