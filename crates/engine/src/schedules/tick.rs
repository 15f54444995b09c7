//! A tick becomes a job. It is submitted under a key that is made of schedule and tick, so that two replicas, or one that
//! died half way and its successor, make one job.

use chrono::{DateTime, Utc};
use domain::{JobId, Lane, ScheduleId};
use store::schedule::{self, Due, Ticked};
use tracing::{info, warn};

use super::When;
use crate::{
    Engine,
    submit::{self, Format, Submission, SubmitError, Submitter},
};

/// Submits what is due; gives the number of ticks. Ticks that were missed, because no gateway ran, become one.
pub async fn run_due(engine: &Engine) -> store::Result<u64> {
    let mut ticks = 0;
    // Those that stay due, and are looked at again next time: they must not hold up the others.
    let mut later: Vec<i64> = Vec::new();
    loop {
        let due = schedule::due(&mut *engine.pools.work.acquire().await?, &later).await?;
        let Some(due) = due else { return Ok(ticks) };
        let made = match submit_one(engine, &due).await {
            // It is not the schedule's fault, so the tick stays due.
            Err(SubmitError::Unavailable(error)) => return Err(error),
            // A process died at this very tick and its upload is not given up yet, or nobody knows how it ended: the same key
            // finds the job if there is one.
            Err(
                error @ (SubmitError::InFlight
                | SubmitError::Busy { .. }
                | SubmitError::Abandoned
                | SubmitError::InDoubt { .. }),
            ) => {
                warn!(schedule = %ScheduleId(due.schedule_id), %error, "A tick made no job yet; trying again");
                later.push(due.schedule_id);
                continue;
            }
            made => made,
        };
        let error = made.as_ref().err().map(ToString::to_string);
        match &made {
            Ok(Some(job)) => info!(schedule = %ScheduleId(due.schedule_id), job.id = %job, "A tick became a job"),
            Ok(None) => {
                info!(schedule = %ScheduleId(due.schedule_id), "A tick was passed over: the last job still runs");
            }
            Err(error) => warn!(schedule = %ScheduleId(due.schedule_id), %error, "A tick made no job"),
        }
        let done = Ticked {
            schedule_id: due.schedule_id,
            tick: due.tick,
            next_at: next(&due, engine.clock.now()),
            job_id: made.ok().flatten().map(|job| job.0),
            error: error.as_deref(),
        };
        schedule::ticked(&mut *engine.pools.work.acquire().await?, done).await?;
        ticks += 1;
    }
}

/// `None`: the job of an earlier tick still runs, and the schedule is passed over meanwhile.
async fn submit_one(engine: &Engine, due: &Due) -> Result<Option<JobId>, SubmitError> {
    if due.skip_if_running && due.running.is_some() {
        return Ok(None);
    }
    let lanes: Vec<Lane> = due.lanes.iter().filter_map(|lane| lane.parse().ok()).collect();
    if lanes.is_empty() {
        return Err(SubmitError::Param { name: "key", reason: "the key that made this schedule was revoked".into() });
    }
    let mut params: domain::job::JobParams =
        serde_json::from_value(due.params.clone()).map_err(|error| SubmitError::Document(error.to_string()))?;
    params.name.get_or_insert_with(|| due.name.clone());
    let who = Submitter { team_id: due.team_id, key_id: &due.key_id, lanes: &lanes };
    let key = format!("schedule/{}/{}", ScheduleId(due.schedule_id), due.tick.to_rfc3339());
    let submission =
        Submission { params, idempotency_key: Some(key), format: Format::Jsonl, body: due.lines.as_slice() };
    Ok(Some(submit::submit(engine, who, submission).await?.job_id))
}

/// `None`: it will not fire again.
fn next(due: &Due, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    When::read(&due.cron, &due.time_zone).and_then(|when| when.after(now.max(due.tick))).ok()
}
