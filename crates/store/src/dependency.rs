//! Jobs that wait for another job. The transaction that ends that job lets them begin.

use std::collections::BTreeSet;

use domain::{After, AfterOn, JobId};
use sqlx::{PgConnection, query, query_scalar};

use crate::{
    Result,
    job::{self, EndAs},
    share,
};

/// How many jobs may wait for one: they begin in the transaction that ends it.
pub const MOST_FOLLOWERS: i64 = 100;

/// The job that another one waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Other {
    Unended,
    /// It ended, and every request of it had succeeded.
    Clean,
    Unclean,
}

/// How the job stands that another of its team is to come after. Holds its end back until the transaction is over; `None`: the
/// team has no such job.
pub async fn look(conn: &mut PgConnection, team_id: i64, other: JobId) -> Result<Option<Other>> {
    let ended = query_scalar!(
        r#"select finished_at is not null as "ended!" from job
           where job_id = $1 and team_id = $2 and state <> 'uploading' for share"#,
        other.0,
        team_id,
    )
    .fetch_optional(&mut *conn)
    .await?;
    Ok(match ended {
        None => None,
        Some(false) => Some(Other::Unended),
        Some(true) if is_clean(conn, other).await? => Some(Other::Clean),
        Some(true) => Some(Other::Unclean),
    })
}

async fn is_clean(conn: &mut PgConnection, id: JobId) -> Result<bool> {
    query_scalar!(
        r#"select j.state = 'completed' and j.failed = 0
                  and not exists (select 1 from job_tally t where t.job_id = j.job_id and t.failed > 0) as "clean!"
           from job j where j.job_id = $1"#,
        id.0,
    )
    .fetch_one(conn)
    .await
}

/// How many jobs that have not ended come after this one.
pub async fn followers(conn: &mut PgConnection, id: JobId) -> Result<i64> {
    query_scalar!(r#"select count(*) as "n!" from job where after_job = $1 and finished_at is null"#, id.0)
        .fetch_one(conn)
        .await
}

/// A job that waited, and whether it now runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Follower {
    pub id: JobId,
    pub runs: bool,
}

/// Lets the jobs that waited for this one begin, or cancels them. In the transaction that ended it.
pub async fn release(conn: &mut PgConnection, ended: JobId) -> Result<Vec<Follower>> {
    let waiting = query!(
        "select job_id, after_on from job
         where after_job = $1 and finished_at is null and state in ('queued', 'running', 'paused')
           and exists (select 1 from flow f where f.job_id = job.job_id and f.state = 'held')
         order by job_id for update",
        ended.0,
    )
    .fetch_all(&mut *conn)
    .await?;
    if waiting.is_empty() {
        return Ok(Vec::new());
    }
    let clean = is_clean(conn, ended).await?;
    let mut followers = Vec::with_capacity(waiting.len());
    let mut ready = Vec::new();
    for job in waiting {
        let id = JobId(job.job_id);
        let runs = clean || job.after_on.as_deref() != Some(AfterOn::Success.as_str());
        if runs {
            ready.append(&mut make_ready(conn, id).await?);
        } else {
            cancel(conn, id).await?;
        }
        followers.push(Follower { id, runs });
    }
    wake(conn, ready).await?;
    Ok(followers)
}

/// Jobs that have ended and for which others still wait: what an earlier version, which knows of no followers, leaves when it ends
/// them.
pub async fn overlooked(conn: &mut PgConnection, most: i64) -> Result<Vec<i64>> {
    query_scalar!(
        r#"select distinct a.job_id as "job_id!"
           from flow f join job j on j.job_id = f.job_id join job a on a.job_id = j.after_job
           where f.state = 'held' and a.finished_at is not null
           limit $1"#,
        most,
    )
    .fetch_all(conn)
    .await
}

/// Makes a waiting job runnable; a paused one stays paused. The caller must hold the job's lock.
pub async fn begin(conn: &mut PgConnection, id: JobId) -> Result<()> {
    let ready = make_ready(conn, id).await?;
    wake(conn, ready).await
}

/// Gives lane and team of each of the job's flows.
async fn make_ready(conn: &mut PgConnection, id: JobId) -> Result<Vec<(String, i64)>> {
    let flows = query!(
        "update flow f set state = case when j.state = 'paused' then 'paused' else 'ready' end
         from job j where f.job_id = $1 and j.job_id = $1 and f.state = 'held'
         returning f.lane, f.team_id",
        id.0,
    )
    .fetch_all(conn)
    .await?;
    Ok(flows.into_iter().map(|flow| (flow.lane, flow.team_id)).collect())
}

/// Wakes all shares together and last: shares that are locked one by one, with flows in between, could be locked in another order by
/// somebody else.
async fn wake(conn: &mut PgConnection, ready: Vec<(String, i64)>) -> Result<()> {
    let (lanes, teams): (Vec<String>, Vec<i64>) = ready.into_iter().unzip();
    for lane in lanes.iter().collect::<BTreeSet<_>>() {
        job::notify_work(conn, lane).await?;
    }
    if !lanes.is_empty() {
        share::wake(conn, &lanes, &teams).await?;
    }
    Ok(())
}

/// Cancels a waiting job; the finisher ends it. The caller must hold the job's lock.
pub async fn cancel(conn: &mut PgConnection, id: JobId) -> Result<()> {
    job::end_waiting(conn, id, EndAs::Cancelled).await?;
    job::set_cancelling(conn, id).await
}

/// The jobs that `id` waits for, directly or by others that wait: itself first, at most `most`.
pub async fn chain(conn: &mut PgConnection, id: JobId, most: i32) -> Result<Vec<JobId>> {
    let jobs = query_scalar!(
        r#"with recursive ahead as (
               select job_id, after_job, 1 as depth from job where job_id = $1
               union all
               select j.job_id, j.after_job, a.depth + 1 from ahead a join job j on j.job_id = a.after_job
               where a.depth < $2 and j.finished_at is null
           )
           select job_id as "job_id!" from ahead order by depth"#,
        id.0,
        most,
    )
    .fetch_all(conn)
    .await?;
    Ok(jobs.into_iter().map(JobId).collect())
}

/// Changes what a job waits for. The caller must hold the job's lock.
pub async fn set(conn: &mut PgConnection, id: JobId, after: Option<After>) -> Result<()> {
    query!(
        "update job set after_job = $2, after_on = $3 where job_id = $1",
        id.0,
        after.map(|after| after.job.0),
        after.map(|after| after.on.as_str()),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes a job wait if nothing of it was claimed; `false`, to be rolled back, if something was. The caller must hold
/// the job's lock.
pub async fn make_wait(conn: &mut PgConnection, id: JobId) -> Result<bool> {
    let cursors =
        query_scalar!("update flow set state = 'held' where job_id = $1 and state <> 'ended' returning next_pos", id.0)
            .fetch_all(conn)
            .await?;
    Ok(cursors.iter().all(|next_pos| *next_pos == 0))
}

/// Two changes at once could close a cycle that neither of them sees: one at a time for a team, until the transaction ends.
pub async fn one_at_a_time(conn: &mut PgConnection, team_id: i64) -> Result<()> {
    query!("select pg_advisory_xact_lock(hashtextextended('tollway_after', $1))", team_id).execute(conn).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
