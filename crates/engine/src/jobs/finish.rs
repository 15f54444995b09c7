//! The end of a job, and what follows from it in the same transaction: its webhook, and the jobs that waited for it.

use std::collections::HashSet;

use domain::{Action, JobId, JobState};
use serde_json::json;
use store::{
    PgConnection,
    audit::{self, Entry},
    dependency::Follower,
    job::{EndAs, Followed, Scope},
};

use crate::Engine;

/// What became of a job that was to be ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    Ended,
    /// Requests of it still run or wait, or it had ended before.
    Not,
    /// There is more to be removed than one transaction removes: look again.
    More,
}

/// Ends the job if none of its requests is left. The caller must hold the job's lock.
pub(crate) async fn finish_if_drained(engine: &Engine, conn: &mut PgConnection, id: JobId) -> store::Result<Finish> {
    let Some(state) = store::job::lock(conn, Scope::All, id).await? else { return Ok(Finish::Not) };
    if state.is_terminal() || matches!(state, JobState::Uploading | JobState::Paused) {
        return Ok(Finish::Not);
    }
    let late = store::flow::remove_ended_retries(conn, id.0).await?;
    if late > 0 {
        let how = if state == JobState::Cancelling { EndAs::Cancelled } else { EndAs::Expired };
        store::job::count_ended(conn, id, how, late).await?;
    }
    if late == store::flow::RETRIES_AT_ONCE {
        return Ok(Finish::More);
    }
    store::flow::remove_drained(conn, &[id.0]).await?;
    if store::job::finish(conn, &[id.0], engine.settings.retention, Followed::Ended).await?.is_empty() {
        return Ok(Finish::Not);
    }
    tell(conn, id).await?;
    release_followers(engine, conn, id).await?;
    Ok(Finish::Ended)
}

/// Ends the jobs that are drained and whose end concerns no other job or receiver, in one transaction: otherwise a job
/// of one request would cost a transaction of its own. Returns the jobs that have to be examined one by one.
pub(crate) async fn finish_plain(engine: &Engine, conn: &mut PgConnection, jobs: &[i64]) -> store::Result<Vec<i64>> {
    let mut tx = store::begin(conn).await?;
    let locked = store::job::lock_plain(&mut tx, jobs).await?;
    store::flow::remove_drained(&mut tx, &locked).await?;
    let finished = store::job::finish(&mut tx, &locked, engine.settings.retention, Followed::Left).await?;
    tx.commit().await?;
    let finished: HashSet<i64> = finished.into_iter().collect();
    Ok(jobs.iter().copied().filter(|job| !finished.contains(job)).collect())
}

async fn tell(conn: &mut PgConnection, id: JobId) -> store::Result<()> {
    let Some((team_id, url)) = store::job::webhook_of(conn, id).await? else { return Ok(()) };
    let Some(job) = store::job::get(conn, Scope::All, id).await? else { return Ok(()) };
    let payload = notify::webhook::job_ended(&job);
    let webhook = store::outbox::NewWebhook {
        webhook_id: uuid::Uuid::now_v7(),
        job_id: id.0,
        team_id,
        url: &url,
        payload: &payload,
    };
    store::outbox::insert(conn, webhook).await
}

/// Those that are cancelled have followers of their own, so each is ended in a transaction of its own, by the finisher.
pub(crate) async fn release_followers(engine: &Engine, conn: &mut PgConnection, id: JobId) -> store::Result<()> {
    let followers = store::dependency::release(conn, id).await?;
    for follower in &followers {
        audit::record(conn, line(id, follower)).await?;
    }
    engine.settler.touched(followers.iter().filter(|follower| !follower.runs).map(|follower| follower.id.0));
    Ok(())
}

fn line(ended: JobId, follower: &Follower) -> Entry<'static> {
    let (action, details) = if follower.runs {
        (Action::Begin, json!({ "after": ended }))
    } else {
        (Action::Cancel, json!({ "after": ended, "reason": UNCLEAN }))
    };
    Entry { job_id: follower.id.0, key_id: None, action, details }
}

/// Why a job that comes after the success of another one was cancelled.
pub(crate) const UNCLEAN: &str = "not every request of the job that it comes after succeeded";
