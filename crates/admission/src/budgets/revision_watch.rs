//! Follows the budgets in force. Calls in flight are counted under new budgets, and Postgres is told which revision
//! this replica enforces. A budget grants nothing before all replicas enforce it.

use std::{
    collections::{HashMap, HashSet},
    sync::{PoisonError, atomic::Ordering},
};

use domain::budget::Guard;
use store::budget::BudgetRow;

use super::{Budgets, collect_demand::Occasion, grant_round::exchange, index::BudgetIndex, rule::BudgetRule};
use crate::AdmissionControl;

/// Follows the budgets in force. New budgets count the calls in flight, and Postgres has these amounts before it learns
/// that the revision is followed. Only then does a budget grant anything.
pub async fn follow(control: &AdmissionControl) -> store::Result<()> {
    let budgets = &control.budgets;
    let _alone = budgets.exchange.lock().await;
    loop {
        let mut conn = control.pools.work.acquire().await?;
        let revision = store::budget::revision(&mut conn).await?;
        if revision != budgets.index().revision {
            let rows = store::budget::active(&mut conn).await?;
            budgets.uncounted.fetch_or(rows.iter().any(|row| !row.is_counted), Ordering::AcqRel);
            budgets.turn_to(revision, rows);
        }
        drop(conn);
        if budgets.followed.load(Ordering::Acquire) == revision {
            return Ok(());
        }
        exchange(control, Occasion::News).await?;
        let mut tx = control.pools.work.begin().await?;
        let is_newest = store::budget::follow(&mut tx, control.worker_id, revision).await?;
        tx.commit().await?;
        if is_newest {
            budgets.followed.store(revision, Ordering::Release);
            return Ok(());
        }
    }
}

/// Postgres lost sight of this process and knows it again: it still follows what it followed.
pub async fn keep_following(control: &AdmissionControl, conn: &mut store::PgConnection) -> store::Result<()> {
    match control.budgets.followed() {
        Some(revision) => store::budget::still_follow(conn, control.worker_id, revision).await,
        None => Ok(()),
    }
}

/// Counts the spend from before a budget was declared. The first replica to lock the budget does it.
pub(super) async fn count(control: &AdmissionControl) -> store::Result<()> {
    loop {
        let mut tx = control.pools.work.begin().await?;
        let Some(one) = store::budget::uncounted(&mut tx).await? else { break };
        store::budget::count(&mut tx, &one, control.clock.now()).await?;
        tx.commit().await?;
    }
    let mut conn = control.pools.work.acquire().await?;
    let is_left = store::budget::has_uncounted(&mut conn).await?;
    control.budgets.uncounted.store(is_left, Ordering::Release);
    Ok(())
}

impl Budgets {
    /// Replaces the index. New calls are checked against the new one, and calls in flight are adopted into it.
    pub fn turn_to(&self, revision: i64, rows: Vec<BudgetRow>) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let next = BudgetIndex::new(revision, rows, &index);
        let is_changed =
            |rule: &BudgetRule| index.rules.iter().any(|old| old.id == rule.id && old.budget != rule.budget);
        let changed: HashSet<i64> = next.rules.iter().filter(|rule| is_changed(rule)).map(|rule| rule.id).collect();
        self.sub_budgets.shed(&changed);
        let known: Vec<i64> = index.rules.iter().map(|rule| rule.id).collect();
        let guards: HashMap<i64, Guard> =
            index.rules.iter().filter_map(|rule| Some((rule.id, rule.budget.guard?))).collect();
        let is_same = |a: &Guard, b: &Guard| (a.per, a.by) == (b.per, b.by);
        for call in self.calls.all().values() {
            let facts = call.facts();
            for rule in next.of(&facts) {
                if !known.contains(&rule.id) {
                    call.adopt(rule);
                }
                let is_new = |guard: &Guard| guards.get(&rule.id).is_none_or(|before| !is_same(before, guard));
                if rule.budget.guard.is_some_and(|guard| is_new(&guard))
                    && let Some(sub_budget) = self.sub_budgets.of(rule, &facts)
                {
                    call.adopt(&sub_budget);
                }
            }
        }
        *index = next;
    }
}
