//! Pauses jobs that may not spend more, with a reason. A job that spends a budget faster than its guard allows raises
//! an alert. It resumes when it is approved, or when its spend within the guard's window has fallen. A job at its own
//! `max_cost` resumes when that is raised.

use std::sync::Arc;

use admission::budgets::{self, Refusal, SubBudgetOf, Why};
use domain::{Action, JobId, JobState, PauseReason};
use notify::alerts::{self, Burn};
use serde_json::json;
use store::{
    PgConnection,
    audit::{self, Entry},
    budget::Guarded,
    job::Scope,
    pause::{self, NewPause, PauseOutcome},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::resume_unless_held;
use crate::Engine;

/// A job resumes when its spend has fallen below this many percent of its limit, not as soon as one call leaves the
/// window.
const FALLEN: i128 = 90;
/// Pauses jobs that sub-budgets refused on this replica, until cancelled.
pub async fn keep_guard(engine: Arc<Engine>, stop: CancellationToken) {
    loop {
        let tripped = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            tripped = engine.control.budgets.tripped() => tripped,
        };
        for (job, refusal) in tripped {
            if let Err(error) = trip(&engine, JobId(job), &refusal).await {
                // It was refused, so nothing is spent; it asks again in a moment.
                warn!(%error, job = %JobId(job), "A job that may spend no more could not be paused");
            }
        }
    }
}

/// Pauses the job, unless it was approved. The first replica to see the refusal does it.
async fn trip(engine: &Engine, job: JobId, refusal: &Refusal) -> store::Result<()> {
    let Some((sub_budget, id)) =
        refusal.rule.sub_budget.as_ref().and_then(|sub_budget| Some((sub_budget, sub_budget.id()?)))
    else {
        return Ok(());
    };
    let now = engine.clock.now();
    let mut tx = engine.pools.work.begin().await?;
    let state = match store::job::lock(&mut tx, Scope::All, job).await? {
        Some(state @ (JobState::Queued | JobState::Running | JobState::Paused)) => state,
        _ => return Ok(()),
    };
    let (rule, needs) = (&refusal.rule, refusal.asked);
    let window = budgets::cells(id, &rule.budget, now);
    let Some(locked) = store::budget::lock_sub_budgets(&mut tx, &[id]).await?.pop() else { return Ok(()) };
    let standing = store::budget::standing(&mut tx, &[window]).await?.pop().unwrap_or_default();
    let spent = standing.spent;
    let left = locked.cap - spent - standing.unproven;
    // It was refused by how things stood: meanwhile its limit may have been raised, or what it spent may have passed.
    let may_go_on = match refusal.why {
        Why::Unpriced => false,
        Why::SustainedShortage => left * 2 > locked.cap,
        _ => needs <= left,
    };
    if may_go_on || !locked.is_open {
        return Ok(());
    }
    let burn = match &sub_budget.of {
        SubBudgetOf::Guard { guard, whole } => {
            let held = standing.reserved;
            Some(Burn { job, name: &rule.name, guard, whole, part_id: id, spent, held, asked: needs })
        }
        SubBudgetOf::Job { .. } => None,
    };
    let (reason, part_id) = if burn.is_some() { (PauseReason::Guard, id) } else { (PauseReason::MaxCost, 0) };
    let detail = burn.as_ref().map_or_else(|| at_its_most(refusal, spent), Burn::said);
    match pause::put(&mut tx, NewPause { job, reason, part_id, detail: &detail, needs, at: now }).await? {
        PauseOutcome::New => {}
        PauseOutcome::Before => return Ok(()),
        PauseOutcome::Lifted(until) => {
            refusal.lift(job.0, until);
            engine.work.notify();
            return Ok(());
        }
    }
    if state != JobState::Paused {
        store::job::pause(&mut tx, job).await?;
    }
    let details = json!({ "by": reason, "reason": &detail });
    audit::record(&mut tx, Entry { job_id: job.0, key_id: None, action: Action::Pause, details }).await?;
    if let Some(burn) = &burn {
        alerts::tell_of_burn(&engine.notifier, &mut tx, burn, now).await?;
    }
    tx.commit().await?;
    info!(job.id = %job, by = reason.as_str(), "A job was paused: it may spend no more");
    Ok(())
}

/// Why a job waits that has a limit of its own.
fn at_its_most(refusal: &Refusal, spent: i128) -> String {
    let said = |amount: i128| refusal.rule.unit.said(amount);
    let most = said(refusal.rule.budget.cap());
    match refusal.why {
        Why::Unpriced => {
            format!("its max_cost is {most}, and the model has no price, so nobody knows what a request costs")
        }
        _ => format!(
            "its max_cost is {most}; {} is spent, and the next request may cost {}",
            said(spent),
            said(refusal.asked)
        ),
    }
}

/// Resumes jobs whose spend has fallen. A chore.
pub async fn resume_guarded(engine: &Engine) -> store::Result<()> {
    let mut conn = engine.pools.work.acquire().await?;
    let held = store::budget::guarded(&mut conn).await?;
    if held.is_empty() {
        return Ok(());
    }
    let now = engine.clock.now();
    let window = |one: &Guarded| budgets::rolling_cells(one.part_id, one.per, now);
    let standings = store::budget::standing(&mut conn, &held.iter().map(window).collect::<Vec<_>>()).await?;
    for (one, standing) in held.iter().zip(standings) {
        if one.rate.is_none_or(|rate| may_go_on(rate, standing.taken, one.needs)) {
            let mut tx = store::begin(&mut conn).await?;
            resume(engine, &mut tx, one).await?;
            tx.commit().await?;
        }
    }
    Ok(())
}

/// Both enough below what it may spend not to be paused at once, and with room for its next request.
fn may_go_on(rate: i128, taken: i128, needs: i128) -> bool {
    taken * 100 <= rate * FALLEN && taken + needs <= rate
}

async fn resume(engine: &Engine, conn: &mut PgConnection, one: &Guarded) -> store::Result<()> {
    let job = JobId(one.job_id);
    let state = store::job::lock(conn, Scope::All, job).await?;
    if !pause::remove(conn, job, PauseReason::Guard, one.part_id).await? || state != Some(JobState::Paused) {
        return Ok(());
    }
    let holds = pause::of_job(conn, job).await?;
    resume_unless_held(engine, conn, job, &holds).await?;
    let details = json!({ "by": "guard", "budget": one.budget });
    audit::record(conn, Entry { job_id: job.0, key_id: None, action: Action::Resume, details }).await
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_job_goes_on_when_its_spend_has_fallen_and_its_next_request_fits() {
        for (taken, needs, expected) in [
            (1_000, 1, false),
            (901, 1, false),
            (900, 100, true),
            (900, 101, false),
            (0, 1_000, true),
            (0, 1_001, false),
        ] {
            assert_eq!(may_go_on(1_000, taken, needs), expected, "{taken} {needs}");
        }
    }

    proptest! {
        /// A resumed job has room for at least one request: it is not paused again before it made a call.
        #[test]
        fn who_goes_on_makes_a_call(rate in 1i128..1_000_000, taken in 0i128..1_000_000, needs in 0i128..1_000_000) {
            prop_assert!(!may_go_on(rate, taken, needs) || taken + needs <= rate);
        }
    }
}
