//! Rejects new jobs when a budget is used up.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::{
    Tags,
    budget::{Facts, Policy},
};
use store::{PgPool, budget::Standing};

use super::{Budgets, Refusal, Why, rule::BudgetRule, windows};

/// Who submits.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    pub team_id: i64,
    pub key_id: &'a str,
    pub tags: &'a Tags,
}

/// A budget with less than 1/`CRUMBS` of its limit left takes no new job.
const CRUMBS: i128 = 1_000;

/// Finds a budget with the policy `reject` that applies to all requests of the job and is used up.
pub async fn used_up(
    budgets: &Budgets,
    pool: &PgPool,
    asker: Asker<'_>,
    now: DateTime<Utc>,
) -> store::Result<Option<Refusal>> {
    if budgets.index().is_empty() {
        return Ok(None);
    }
    let mut conn = pool.acquire().await?;
    let Some(team) = store::team::get(&mut conn, asker.team_id).await? else { return Ok(None) };
    let rules: Vec<_> = {
        let index = budgets.index();
        // No deployment and no provider has an empty name: what depends on them is left to the calls.
        let facts = Facts {
            team: &team.name,
            key: Some(asker.key_id),
            job: None,
            deployment: "",
            provider: "",
            tags: asker.tags,
        };
        index.of(&facts).filter(|rule| rule.policy == Policy::Reject).cloned().collect()
    };
    let windows: Vec<_> = rules.iter().map(|rule| windows::cells(rule.id, &rule.budget, now)).collect();
    let standings = store::budget::standing(&mut conn, &windows).await?;
    // Reservations of calls in flight may be returned.
    let left = |(rule, now): &(Arc<BudgetRule>, Standing)| rule.budget.cap() - now.spent - now.unproven;
    let mut standings = rules.into_iter().zip(standings);
    let used_up = standings.find(|one| left(one) * CRUMBS < one.0.budget.cap());
    Ok(used_up.map(|one| (left(&one), one.0)).map(|(left, rule)| Refusal {
        asked: 0,
        left: left.max(0),
        at: now,
        resets_at: rule.budget.window.resets_at(rule.budget.time_zone, now),
        why: Why::UsedUp,
        is_last_try: false,
        rule,
    }))
}
