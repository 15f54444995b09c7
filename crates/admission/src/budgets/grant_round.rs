//! One round of grants: requests the demand of every budget and sub-budget from Postgres in one transaction, and
//! applies the answers.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use store::{
    budget::{GrantRequest, GrantRow, Locked, Taken},
    limit::Word,
};

use super::{
    account::{self, Account, Headroom},
    collect_demand::{Occasion, Pending, collect_demand},
    refusal::{Refusal, Why},
    rule::{BudgetRule, State, View},
    sub_budget::{SubBudget, SubBudgetOf},
    sub_budgets,
};
use crate::{AdmissionControl, granter::GRANT_RETENTION_TICKS};

/// The least time between two requests to other replicas for their unused grants.
const PEER_QUERY_INTERVAL: Duration = Duration::from_millis(20);

/// Exchanges grants with Postgres if there is demand, news, or something to return. Returns whether requests of jobs
/// asked for any of it.
pub(super) async fn exchange(control: &AdmissionControl, occasion: Occasion) -> store::Result<bool> {
    let now = control.clock.now();
    let rules = rules(control).await?;
    let mut pending = Vec::new();
    let mut for_jobs = false;
    for rule in &rules {
        let mut state = rule.state();
        for_jobs |= !state.unmet.is_empty();
        collect_demand(&mut state, rule, now, occasion, &mut pending);
    }
    if pending.is_empty() {
        return Ok(false);
    }
    let ids = |is_sub_budget: bool| {
        let of_kind = pending.iter().filter(|one| one.rule.sub_budget.is_some() == is_sub_budget);
        let mut ids: Vec<i64> = of_kind.map(|one| one.ask.budget_id).collect();
        ids.dedup();
        ids
    };
    let asks: Vec<GrantRequest> = pending.iter().map(|one| one.ask).collect();
    let mut tx = control.pools.work.begin().await?;
    let mut locked = store::budget::lock(&mut tx, &ids(false)).await?;
    locked.extend(store::budget::lock_sub_budgets(&mut tx, &ids(true)).await?);
    let locked: HashMap<i64, Locked> = locked.into_iter().map(|one| (one.budget_id, one)).collect();
    let replicas = store::budget::replicas(&mut tx).await?;
    let taken = store::budget::taken(&mut tx, control.worker_id, &asks).await?;
    let mut answers = Vec::with_capacity(pending.len());
    for (one, taken) in pending.into_iter().zip(taken) {
        // The budget was removed meanwhile: no replica reads its row any more.
        let Some(locked) = locked.get(&one.ask.budget_id) else { continue };
        answers.push(answer(one, *locked, taken, replicas));
    }
    let puts: Vec<GrantRow> = answers.iter().map(|(one, after, _)| put(&one.ask, after)).collect();
    store::budget::give(&mut tx, control.worker_id, &puts).await?;
    tx.commit().await?;
    let (mut is_tight, mut short) = (false, Vec::new());
    for (one, after, view) in &answers {
        let mut state = one.rule.state();
        state.take_in(one, after, *view);
        if replicas > 1 && is_short(one, after) && state.may_ask() {
            short.push(one.ask.budget_id);
        }
        is_tight |= view.is_tight && one.is_current;
        let refused = refused(&mut state, one, view, now);
        drop(state);
        refused.into_iter().for_each(|(job, refusal)| control.budgets.tripped.push(job, refusal));
    }
    if !short.is_empty() {
        let word = Word::Short { by: control.worker_id, budgets: short };
        store::limit::tell(&mut *control.pools.work.acquire().await?, &word).await?;
    }
    control.budgets.any_tight.store(is_tight, Ordering::Release);
    control.budgets.turn.send_modify(|turn| *turn += 1);
    Ok(for_jobs)
}

/// All rules that take grants: the budgets in force and their sub-budgets in use.
async fn rules(control: &AdmissionControl) -> store::Result<Vec<Arc<BudgetRule>>> {
    let mut rules = control.budgets.index().rules.clone();
    let sub_budgets = control.budgets.sub_budgets.in_use();
    let nameless: Vec<SubBudget> = sub_budgets
        .iter()
        .filter_map(|rule| rule.sub_budget.clone())
        .filter(|sub_budget| sub_budget.id().is_none())
        .collect();
    if !nameless.is_empty() {
        sub_budgets::name(&mut *control.pools.work.acquire().await?, &nameless).await?;
    }
    rules.extend(sub_budgets);
    Ok(rules)
}

/// Jobs that a sub-budget refuses for good: their next request cannot fit however the calls in flight end, or their
/// guard has blocked them for a sustained time. This is decided here, where the state of the sub-budget is fresh; at
/// the job's next retry it may be stale.
pub(super) fn refused(state: &mut State, one: &Pending, view: &View, now: DateTime<Utc>) -> Vec<(i64, Refusal)> {
    let Some(sub_budget) = one.rule.sub_budget.as_ref().filter(|_| view.is_open) else { return Vec::new() };
    // Reservations are not spend: a job that has spent less than half of its limit is not paused for them.
    let is_short = one.needs.iter().sum::<i128>() > view.left && view.possible * 2 <= one.rule.budget.cap();
    let guard = match &sub_budget.of {
        SubBudgetOf::Guard { guard, .. } => Some(guard),
        SubBudgetOf::Job { .. } => None,
    };
    let mut refused = Vec::new();
    for (&job, &asked) in &one.asking {
        let is_sustained = guard.is_some_and(|guard| state.note_shortage(job, guard.per, is_short, now));
        let why = match is_sustained {
            _ if asked > view.possible => Why::Short,
            true => Why::SustainedShortage,
            false => continue,
        };
        let (rule, left) = (Arc::clone(&one.rule), view.left.max(0));
        refused.push((job, Refusal { rule, asked, left, at: now, resets_at: None, why, is_last_try: false }));
    }
    refused
}

/// The account as it will be, and how the window stands.
pub(super) fn answer(one: Pending, locked: Locked, taken: Taken, replicas: i64) -> (Pending, Account, View) {
    let mut account = one.account;
    if !one.is_loaded {
        // Granted before this process registered again: all of it counts as used.
        account.used += taken.mine;
        account.granted += taken.mine;
    }
    let room = Headroom {
        cap: locked.cap,
        others: taken.others,
        replicas: replicas.into(),
        is_open: locked.is_open && one.is_current,
    };
    let granted = account::grant(&account, &one.needs, one.recent, room);
    account.granted = granted.granted;
    let view = View {
        at: Instant::now(),
        is_open: locked.is_open,
        is_tight: granted.is_tight,
        left: granted.left,
        possible: locked.cap - taken.spent - taken.unproven,
    };
    (one, account, view)
}

/// Less was granted than needed: other replicas are asked for their unused grants.
fn is_short(one: &Pending, after: &Account) -> bool {
    one.is_current && after.granted < one.account.used + one.needs.iter().sum::<i128>()
}

fn put(ask: &GrantRequest, after: &Account) -> GrantRow {
    GrantRow {
        budget_id: ask.budget_id,
        cell: ask.cell,
        granted: after.granted.max(after.used),
        reserved: after.reserved,
        free: after.free(),
    }
}

impl State {
    /// Limits the rate of such requests: the other replicas need time to answer.
    fn may_ask(&mut self) -> bool {
        let may = self.asked_at.is_none_or(|at| at.elapsed() > PEER_QUERY_INTERVAL);
        if may {
            self.asked_at = Some(Instant::now());
        }
        may
    }

    /// Applies a committed answer. Since the round began, calls may have reserved part of the grant, and others may
    /// have ended.
    pub(super) fn take_in(&mut self, one: &Pending, after: &Account, view: View) {
        if self.epoch != one.epoch {
            return;
        }
        if one.is_current {
            self.view = Some(view);
            self.kept = self.kept.max(one.for_jobs).min(after.free());
            if one.for_jobs > 0 {
                self.kept_ticks = GRANT_RETENTION_TICKS;
            }
        }
        let Some(cell) = self.cells.iter_mut().find(|cell| cell.span.start == one.ask.cell) else { return };
        // What Postgres had of it before this process began afresh.
        let loaded = after.used - one.account.used;
        cell.account.used += loaded;
        cell.account.granted = after.granted;
        if loaded > 0 {
            cell.doubts.push((Instant::now(), loaded));
        }
        cell.is_loaded = true;
        cell.written = Some(*after);
        if self.sheds != one.sheds {
            // The limit was changed after this grant was made.
            cell.account.keep(0);
        }
    }
}
