//! Priority, deadline, what it comes after and what it may cost, changed while a job waits or runs: one row for each of its flows.

use chrono::{DateTime, Utc};
use domain::{Action, After, AfterOn, Job, JobId, JobState, PauseReason, money::Total};
use serde_json::{Map, Value, json};
use store::{
    PgConnection,
    audit::{self, Entry},
    dependency,
    dependency::Other,
    job::Terms,
    pause,
};

use super::{By, JobError, approve::resume_unless_held, lock, reread};
use crate::Engine;

/// What is not named stays; `Some(None)` takes it away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    pub priority: Option<i16>,
    pub deadline: Option<Option<DateTime<Utc>>>,
    pub after: Option<Option<After>>,
    /// Only of a job that was submitted with one.
    pub max_cost: Option<Total>,
}

/// A chain of jobs that wait for each other is no longer than this.
const LONGEST_CHAIN: i32 = 1_000;

pub async fn change(engine: &Engine, by: By<'_>, id: JobId, change: Change) -> Result<Job, JobError> {
    if let Some(priority) = change.priority.filter(|n| !(-100..=100).contains(n)) {
        return Err(JobError::param("priority", format!("{priority} is not between -100 and 100")));
    }
    let mut tx = engine.pools.api.begin().await?;
    let other = match change.after {
        Some(Some(wanted)) => Some((wanted, other(&mut tx, by, id, wanted).await?)),
        _ => None,
    };
    match lock(&mut tx, by.scope, id).await? {
        JobState::Queued | JobState::Running | JobState::Paused => {}
        state => return Err(JobError::Conflict { state: state.as_str(), wanted: "changed" }),
    }
    let now = store::job::terms(&mut tx, id).await?;
    let mut said = Map::new();
    if let Some(after) = change.after.filter(|after| *after != now.after) {
        come_after(&mut tx, id, &now, other).await?;
        said.insert("after".to_owned(), json!({ "from": now.after, "to": after }));
    }
    if let Some(most) = change.max_cost.filter(|most| Some(*most) != now.max_cost) {
        cap(engine, &mut tx, id, most, &now).await?;
    }
    let then = Terms {
        max_cost: change.max_cost.or(now.max_cost),
        priority: change.priority.unwrap_or(now.priority),
        deadline_at: change.deadline.unwrap_or(now.deadline_at),
        ..now
    };
    check_deadline(&now, &then, engine.clock.now())?;
    if (then.priority, then.deadline_at) != (now.priority, now.deadline_at) {
        store::job::set_terms(&mut tx, id, then.priority, then.deadline_at).await?;
    }
    let mut compare = |name: &str, from: Value, to: Value| {
        if from != to {
            said.insert(name.to_owned(), json!({ "from": from, "to": to }));
        }
    };
    compare("priority", now.priority.into(), then.priority.into());
    compare("max_cost", json!(now.max_cost), json!(then.max_cost));
    compare("deadline", json!(now.deadline_at), json!(then.deadline_at));
    if !said.is_empty() {
        let details = Value::Object(said);
        let entry = Entry { job_id: id.0, key_id: Some(by.key_id), action: Action::Change, details };
        audit::record(&mut tx, entry).await?;
    }
    tx.commit().await?;
    engine.work.notify();
    reread(engine, by.scope, id).await
}

/// Resumes a job that is paused at its `max_cost`.
async fn cap(engine: &Engine, conn: &mut PgConnection, id: JobId, most: Total, now: &Terms) -> Result<(), JobError> {
    if most.0 <= 0 {
        return Err(JobError::param("max_cost", format!("${most} is not above zero")));
    }
    if now.max_cost.is_none() {
        // Calls of it may be under way that nothing was held for.
        return Err(JobError::param("max_cost", "the job was submitted without one".to_owned()));
    }
    store::budget::cap_job(conn, id.0, most.0).await?;
    if pause::remove(conn, id, PauseReason::MaxCost, 0).await? {
        let holds = pause::of_job(conn, id).await?;
        resume_unless_held(engine, conn, id, &holds).await?;
    }
    Ok(())
}

fn check_deadline(now: &Terms, then: &Terms, time: DateTime<Utc>) -> Result<(), JobError> {
    let Some(deadline) = then.deadline_at.filter(|at| Some(*at) != now.deadline_at) else { return Ok(()) };
    if deadline <= time {
        return Err(JobError::param("deadline", format!("{deadline} has passed; it is {time}")));
    }
    if then.start_at.is_some_and(|start| start >= deadline) {
        return Err(JobError::param("deadline", "the job's start_at is not before it".to_owned()));
    }
    Ok(())
}

/// The other job, read and locked before this one: jobs are locked in the order in which they end.
async fn other(conn: &mut PgConnection, by: By<'_>, id: JobId, wanted: After) -> Result<Other, JobError> {
    let team = store::job::team_of(conn, by.scope, id).await?.ok_or(JobError::NotFound)?;
    dependency::one_at_a_time(conn, team).await?;
    let missing = || JobError::param("after", format!("there is no job {}", wanted.job));
    let other = dependency::look(conn, team, wanted.job).await?.ok_or_else(missing)?;
    let chain = dependency::chain(conn, wanted.job, LONGEST_CHAIN).await?;
    if let Some(at) = chain.iter().position(|ahead| *ahead == id) {
        let names: Vec<String> = chain[..=at].iter().map(ToString::to_string).collect();
        let reason = format!("a cycle: {id} would wait for {}", names.join(", which waits for "));
        return Err(JobError::param("after", reason));
    }
    if chain.len() >= LONGEST_CHAIN as usize {
        return Err(JobError::param("after", format!("{LONGEST_CHAIN} jobs wait for each other already")));
    }
    Ok(other)
}

async fn come_after(
    conn: &mut PgConnection,
    id: JobId,
    now: &Terms,
    other: Option<(After, Other)>,
) -> Result<(), JobError> {
    let Some((wanted, other)) = other else {
        dependency::set(conn, id, None).await?;
        return Ok(dependency::begin(conn, id).await?);
    };
    if other == Other::Unclean && wanted.on == AfterOn::Success {
        return Err(JobError::param("after", format!("{} has ended, and not every request succeeded", wanted.job)));
    }
    if other == Other::Unended && now.after.map(|now| now.job) != Some(wanted.job) {
        check_followers(conn, wanted.job).await?;
    }
    dependency::set(conn, id, Some(wanted)).await?;
    if other != Other::Unended {
        return Ok(dependency::begin(conn, id).await?);
    }
    if now.has_begun || !dependency::make_wait(conn, id).await? {
        return Err(JobError::param("after", "some of its requests were called already".to_owned()));
    }
    Ok(())
}

async fn check_followers(conn: &mut PgConnection, of: JobId) -> Result<(), JobError> {
    if dependency::followers(conn, of).await? < dependency::MOST_FOLLOWERS {
        return Ok(());
    }
    Err(JobError::param("after", format!("{} jobs wait for {of} already; no more may", dependency::MOST_FOLLOWERS)))
}
