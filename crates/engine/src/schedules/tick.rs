//! A tick becomes a job. It is submitted under a key that is made of schedule and tick, so that two replicas, or one that
//! died half way and its successor, make one job.

use chrono::{DateTime, Utc};
use domain::{
    JobId, Lane, ScheduleId,
    cron::{BadWhen, When},
};
use notify::webhook;
use secrecy::ExposeSecret;
use store::schedule::{self, Due, Ticked};
use tracing::{info, warn};

use crate::{
    Engine,
    submit::{self, Format, Submission, SubmitError, Submitter},
};

/// Submits what is due; gives the number of ticks. Ticks that were missed, because no gateway ran, become one.
///
/// Each schedule has one turn a run, the longest due first, so that none holds up the others: neither one that is due again at
/// once, nor one whose submission fails.
pub async fn run_due(engine: &Engine) -> store::Result<u64> {
    let mut ticks = 0;
    let mut had_turn: Vec<i64> = Vec::new();
    let mut unavailable = None;
    loop {
        let due = schedule::due(&mut *engine.pools.work.acquire().await?, &had_turn).await?;
        let Some(due) = due else { break };
        had_turn.push(due.schedule_id);
        let made = match submit_one(engine, &due).await {
            // It is not the schedule's fault, so the tick stays due. When the database is gone, the next look says so.
            Err(SubmitError::Unavailable(error)) => {
                warn!(schedule = %ScheduleId(due.schedule_id), %error, "A tick made no job yet; trying again");
                unavailable.get_or_insert(error);
                continue;
            }
            // A process died at this very tick and its upload is not given up yet, or nobody knows how it ended: the same key
            // finds the job if there is one.
            Err(
                error @ (SubmitError::InFlight
                | SubmitError::Busy { .. }
                | SubmitError::Abandoned
                | SubmitError::InDoubt { .. }),
            ) => {
                warn!(schedule = %ScheduleId(due.schedule_id), %error, "A tick made no job yet; trying again");
                continue;
            }
            made => made,
        };
        match &made {
            Ok(Some(job)) => info!(schedule = %ScheduleId(due.schedule_id), job.id = %job, "A tick became a job"),
            Ok(None) => {
                info!(schedule = %ScheduleId(due.schedule_id), "A tick was passed over: the last job still runs");
            }
            Err(error) => warn!(schedule = %ScheduleId(due.schedule_id), %error, "A tick made no job"),
        }
        finish_tick(engine, &due, made).await?;
        ticks += 1;
    }
    unavailable.map_or(Ok(ticks), Err)
}

/// Notes what came of the tick and moves the schedule on.
async fn finish_tick(engine: &Engine, due: &Due, made: Result<Option<JobId>, SubmitError>) -> store::Result<()> {
    let next = next(due, engine.clock.now());
    let made_no_job = made.as_ref().err().map(ToString::to_string);
    let error = match (&next, made_no_job) {
        // An expression that an earlier version took, and this one does not.
        (Err(unreadable @ (BadWhen::Cron { .. } | BadWhen::Zone(_))), None) => {
            Some(format!("the schedule does not fire again: {unreadable}; delete it and make it anew"))
        }
        (_, made_no_job) => made_no_job,
    };
    let done = Ticked {
        schedule_id: due.schedule_id,
        tick: due.tick,
        next_at: next.ok(),
        job_id: made.ok().flatten().map(|job| job.0),
        error: error.as_deref(),
    };
    schedule::ticked(&mut *engine.pools.work.acquire().await?, done).await?;
    Ok(())
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
    if let Some(kept) = params.webhook.take() {
        let url = webhook::url::open(engine.pepper.expose_secret(), &kept);
        let reason = "its URL was sealed under another pepper; make the schedule anew";
        let url = url.ok_or_else(|| SubmitError::Param { name: "webhook", reason: reason.into() })?;
        params.webhook = Some(url.expose_secret().to_owned());
    }
    let who = Submitter { team_id: due.team_id, key_id: &due.key_id, lanes: &lanes };
    let key = format!("schedule/{}/{}", ScheduleId(due.schedule_id), due.tick.to_rfc3339());
    let submission =
        Submission { params, idempotency_key: Some(key), format: Format::Jsonl, body: due.lines.as_slice() };
    Ok(Some(submit::submit(engine, who, submission).await?.job_id))
}

/// The next time that is neither past nor the tick itself. An error: it will not fire again.
fn next(due: &Due, now: DateTime<Utc>) -> Result<DateTime<Utc>, BadWhen> {
    When::read(&due.cron, &due.time_zone)?.after(now.max(due.tick))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::TimeDelta;
    use store::{PgPool, schedule::NewSchedule};

    use super::*;
    use crate::testing;

    async fn insert(pool: &PgPool, id: i64, cron: &str, next_at: DateTime<Utc>) {
        let new = NewSchedule {
            schedule_id: id,
            team_id: 1,
            key_id: "revoked",
            name: &format!("schedule {id}"),
            cron,
            time_zone: "UTC",
            skip_if_running: false,
            params: serde_json::json!({}),
            lines: &[],
            requests: 1,
            next_at,
        };
        assert!(schedule::insert(&mut pool.acquire().await.unwrap(), &new, 100).await.unwrap());
    }

    async fn row(pool: &PgPool, id: i64) -> schedule::ScheduleRow {
        let mut conn = pool.acquire().await.unwrap();
        schedule::get(&mut conn, store::job::Scope::All, id).await.unwrap().unwrap()
    }

    /// A clock behind the database's has each next tick due at once again: the schedule has its one turn a run all the same.
    #[sqlx::test(migrations = "../../migrations")]
    async fn a_schedule_that_is_due_again_at_once_starves_no_other(pool: PgPool) {
        let (engine, _) = testing::engine(&pool, Duration::from_secs(30)).await;
        let now = Utc::now();
        let behind = now - TimeDelta::hours(1);
        engine.clock.set(behind, std::time::Instant::now());
        insert(&pool, 1, "* * * * * *", behind).await;
        insert(&pool, 2, "0 * * * *", now - TimeDelta::minutes(5)).await;
        insert(&pool, 3, "0 * * * *", now + TimeDelta::hours(1)).await;
        assert_eq!(run_due(&engine).await.unwrap(), 2);
        for id in [1, 2] {
            let row = row(&pool, id).await;
            assert!(row.last_tick_at.is_some() && row.next_at > row.last_tick_at, "{row:?}");
            assert!(row.last_error.unwrap().contains("revoked"), "its key is none");
        }
        assert_eq!(row(&pool, 3).await.last_tick_at, None);
    }

    #[sqlx::test(migrations = "../../migrations")]
    async fn an_expression_that_is_not_understood_any_more_says_why_it_ended(pool: PgPool) {
        let (engine, _) = testing::engine(&pool, Duration::from_secs(30)).await;
        let tick = Utc::now() - TimeDelta::seconds(1);
        insert(&pool, 1, "0 6 L * *", tick).await;
        let due = schedule::due(&mut pool.acquire().await.unwrap(), &[]).await.unwrap().unwrap();
        finish_tick(&engine, &due, Ok(None)).await.unwrap();
        let row = row(&pool, 1).await;
        assert_eq!(row.next_at, None);
        let error = row.last_error.unwrap();
        assert!(error.starts_with("the schedule does not fire again: ") && error.contains("L (the last)"), "{error}");
    }
}
