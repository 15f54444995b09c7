//! Jobs: the permanent record, their transitions, and their counts. A transition is guarded by the state it expects.

mod terms;

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::{
    After, AfterOn, Counts, Hold, Job, JobId, JobState, Lane, Tags,
    money::Total,
    progress::{Faded, LATELY_S, LONGER_S, ProgressRate},
    waits::Waits,
};
use sqlx::{PgConnection, query, query_as, query_scalar, types::Json};

pub use self::terms::{Terms, set_terms, terms};
use crate::{Result, flow};

/// Whose jobs a caller can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Team(i64),
    All,
}

impl Scope {
    pub(crate) fn team(self) -> Option<i64> {
        match self {
            Self::Team(id) => Some(id),
            Self::All => None,
        }
    }
}

#[derive(Debug)]
struct JobRow {
    job_id: i64,
    state: String,
    team: String,
    lane: String,
    name: Option<String>,
    tags: serde_json::Value,
    priority: i16,
    accepted: i64,
    succeeded: i64,
    failed: i64,
    cancelled: i64,
    expired: i64,
    pending: i64,
    in_flight: i64,
    cost_pico: String,
    max_cost: Option<String>,
    unpriced: i64,
    lately: f64,
    longer: f64,
    age_s: f64,
    wait_reason: Option<String>,
    wait_detail: Option<String>,
    wait_until: Option<DateTime<Utc>>,
    paused_by: Json<Vec<Hold>>,
    retry_of: Option<i64>,
    after_job: Option<i64>,
    after_on: Option<String>,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    deadline_at: Option<DateTime<Utc>>,
    purge_at: Option<DateTime<Utc>>,
}

fn decode<E: std::error::Error + Send + Sync + 'static>(error: E) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}

impl TryFrom<JobRow> for Job {
    type Error = sqlx::Error;

    fn try_from(r: JobRow) -> Result<Self> {
        let waits = r.wait_reason.map(|reason| Waits::of_stored(&reason, r.wait_detail, r.wait_until));
        let state = JobState::from_word(&r.state)
            .ok_or_else(|| sqlx::Error::Decode(format!("job state {}", r.state).into()))?;
        let faded = Faded { lately: r.lately, longer: r.longer, age_s: r.age_s };
        Ok(Self {
            id: JobId(r.job_id),
            state,
            team: r.team,
            lane: r.lane.parse::<Lane>().map_err(decode)?,
            name: r.name,
            tags: serde_json::from_value::<Tags>(r.tags).map_err(decode)?,
            priority: r.priority,
            counts: Counts {
                accepted: r.accepted,
                succeeded: r.succeeded,
                failed: r.failed,
                cancelled: r.cancelled,
                expired: r.expired,
                pending: r.pending,
            },
            in_flight: r.in_flight,
            cost_usd: Total(r.cost_pico.parse().map_err(decode)?),
            max_cost: r.max_cost.map(|most| most.parse().map(Total)).transpose().map_err(decode)?,
            unpriced: r.unpriced,
            waiting_reason: waits.as_ref().filter(|waits| waits.is_blocked()).map(Waits::text),
            waits,
            paused_by: r.paused_by.0,
            pace: if state.is_terminal() { ProgressRate::default() } else { ProgressRate::new(faded, r.pending) },
            retry_of: r.retry_of.map(JobId),
            after: after_of(r.after_job, r.after_on.as_deref()),
            created_at: r.created_at,
            started_at: r.started_at,
            finished_at: r.finished_at,
            deadline_at: r.deadline_at,
            purge_at: r.purge_at,
        })
    }
}

/// What a job comes after, as its row says it.
fn after_of(job: Option<i64>, on: Option<&str>) -> Option<After> {
    job.zip(on.and_then(AfterOn::from_word)).map(|(job, on)| After { job: JobId(job), on })
}

/// What a list asks for: newest first, before a job, of a state, of a lane.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    pub state: Option<JobState>,
    pub lane: Option<Lane>,
    pub before: Option<JobId>,
    pub limit: i64,
}

/// Jobs with their counts, all from one snapshot. Pending is counted, never subtracted.
async fn select(conn: &mut PgConnection, scope: Scope, one: Option<JobId>, list: &ListQuery) -> Result<Vec<Job>> {
    query_as!(
        JobRow,
        r#"select j.job_id, j.state, t.name as team, j.lane, j.name, j.tags, j.priority,
                  case when j.state = 'uploading' then 0 else j.accepted end as "accepted!",
                  (j.succeeded + coalesce(n.succeeded, 0))::bigint as "succeeded!", (j.failed + coalesce(n.failed, 0))::bigint as "failed!",
                  j.cancelled, j.expired,
                  coalesce(p.waiting + p.leased + p.retrying, 0)::bigint as "pending!", coalesce(p.leased, 0)::bigint as "in_flight!",
                  (j.cost_pico + coalesce(n.cost_pico, 0))::text as "cost_pico!", j.max_cost::text as max_cost,
                  (j.unpriced + coalesce(n.unpriced, 0))::bigint as "unpriced!",
                  coalesce(n.lately, 0) as "lately!", coalesce(n.longer, 0) as "longer!",
                  coalesce(extract(epoch from now() - j.started_at), 0)::double precision as "age_s!",
                  case when j.state = 'paused' then coalesce(h.reason, 'paused') else w.reason end as wait_reason,
                  case when j.state = 'paused' then h.detail else w.detail end as wait_detail, w.until as "wait_until?",
                  coalesce(h.holds, '[]') as "paused_by!: Json<Vec<Hold>>",
                  j.retry_of, j.after_job, j.after_on, j.created_at, j.started_at, j.finished_at, j.deadline_at, j.purge_at
           from (
               select * from job
               where ($1::bigint is null or team_id = $1) and ($2::bigint is null or job_id = $2)
                 and ($3::text is null or state = $3) and ($4::text is null or lane = $4)
                 and ($5::bigint is null or job_id < $5)
               order by job_id desc
               limit $6
           ) j
           join team t on t.team_id = j.team_id
           left join lateral (
               select sum(succeeded) as succeeded, sum(failed) as failed, sum(cost_pico) as cost_pico, sum(unpriced) as unpriced,
                      sum(tollway_faded(lately, faded_at, $7)) as lately, sum(tollway_faded(longer, faded_at, $8)) as longer
               from job_tally where job_id = j.job_id
           ) n on true
           left join lateral (
               select sum(f.tail_pos - f.next_pos) as waiting,
                      sum((select count(*) from lease l where l.flow_id = f.flow_id)) as leased,
                      sum((select count(*) from retry r where r.flow_id = f.flow_id)) as retrying
               from flow f where f.job_id = j.job_id
           ) p on true
           left join lateral (
               select reason, detail, until from flow_wait
               where job_id = j.job_id
               order by reason in ('paused', 'scheduled'), reason not in ('no_slot', 'no_worker'), served_at, flow_id
               limit 1
           ) w on true
           left join lateral (
               select min(reason) as reason, (array_agg(nullif(detail, '') order by reason))[1] as detail,
                      jsonb_agg(jsonb_build_object('by', reason, 'detail', nullif(detail, ''), 'since', held_at) order by reason)
                          as holds
               from job_hold where job_id = j.job_id and lifted_until is null and j.state = 'paused'
           ) h on true
           order by j.job_id desc"#,
        scope.team(),
        one.map(|id| id.0),
        list.state.map(JobState::as_str),
        list.lane.as_ref().map(Lane::as_str),
        list.before.map(|id| id.0),
        list.limit,
        LATELY_S,
        LONGER_S,
    )
    .fetch_all(conn)
    .await?
    .into_iter()
    .map(Job::try_from)
    .collect()
}

pub async fn get(conn: &mut PgConnection, scope: Scope, id: JobId) -> Result<Option<Job>> {
    let one = ListQuery { limit: 1, ..ListQuery::default() };
    Ok(select(conn, scope, Some(id), &one).await?.pop())
}

pub async fn list(conn: &mut PgConnection, scope: Scope, query: &ListQuery) -> Result<Vec<Job>> {
    select(conn, scope, None, query).await
}

/// Locks the job for a transition and gives its state; `None` when it is not in scope.
pub async fn lock(conn: &mut PgConnection, scope: Scope, id: JobId) -> Result<Option<JobState>> {
    let state = query_scalar!(
        "select state from job where job_id = $1 and ($2::bigint is null or team_id = $2) for update",
        id.0,
        scope.team()
    )
    .fetch_optional(conn)
    .await?;
    Ok(state.as_deref().and_then(JobState::from_word))
}

/// The team of the job; `None` if it is not in scope.
pub async fn team_of(conn: &mut PgConnection, scope: Scope, id: JobId) -> Result<Option<i64>> {
    query_scalar!(
        "select team_id from job where job_id = $1 and ($2::bigint is null or team_id = $2)",
        id.0,
        scope.team()
    )
    .fetch_optional(conn)
    .await
}

/// queued, running → paused. Calls under way go on; nothing new starts. The caller must hold the job's lock.
pub async fn pause(conn: &mut PgConnection, id: JobId) -> Result<()> {
    query!("update job set state = 'paused' where job_id = $1 and state in ('queued', 'running')", id.0)
        .execute(&mut *conn)
        .await?;
    query!("update flow set state = 'paused' where job_id = $1 and state = 'ready'", id.0).execute(conn).await?;
    Ok(())
}

/// paused → queued or running. The caller must hold the job's lock.
pub async fn resume(conn: &mut PgConnection, id: JobId) -> Result<()> {
    query!(
        "update job set state = case when started_at is null then 'queued' else 'running' end
         where job_id = $1 and state = 'paused'",
        id.0
    )
    .execute(&mut *conn)
    .await?;
    let flows = query!(
        "update flow set state = 'ready', blocked_until = '-infinity' where job_id = $1 and state = 'paused' returning lane, team_id",
        id.0
    )
    .fetch_all(&mut *conn)
    .await?;
    let lanes: Vec<String> = flows.iter().map(|f| f.lane.clone()).collect();
    let teams: Vec<i64> = flows.iter().map(|f| f.team_id).collect();
    crate::share::wake(&mut *conn, &lanes, &teams).await?;
    if let Some(lane) = lanes.first() {
        notify_work(conn, lane).await?;
    }
    Ok(())
}

/// Tells idle claimers of a lane that there is work.
pub async fn notify_work(conn: &mut PgConnection, lane: &str) -> Result<()> {
    query!("select pg_notify('tollway_work', $1)", lane).execute(conn).await?;
    Ok(())
}

/// Which of these jobs are being cancelled.
pub async fn cancelling(conn: &mut PgConnection, ids: &[i64]) -> Result<Vec<i64>> {
    query_scalar!("select job_id from job where job_id = any($1) and state = 'cancelling'", ids).fetch_all(conn).await
}

/// How what was not claimed yet is counted when a job ends early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndAs {
    Cancelled,
    Expired,
}

/// Ends all that waits: cursors jump to their ends, in one statement however many requests there are, and retries go, as many as
/// [`flow::remove_ended_retries`] takes at once; the finisher removes the rest. Leases stay until their calls are settled. Holds
/// the job's lock; gives how many requests were ended.
pub async fn end_waiting(conn: &mut PgConnection, id: JobId, how: EndAs) -> Result<i64> {
    // The cursor's remainder is read under the flow's lock: no claim can move it in between.
    let waiting = query_scalar!(
        r#"with held as (
               select flow_id, tail_pos - next_pos as n from flow where job_id = $1 order by flow_id for update
           ), ended as (
               update flow f set next_pos = f.tail_pos, state = 'ended', blocked_until = 'infinity'
               from held where f.flow_id = held.flow_id
               returning held.n
           )
           select coalesce(sum(n), 0)::bigint as "n!" from ended"#,
        id.0
    )
    .fetch_one(&mut *conn)
    .await?;
    let retrying = flow::remove_ended_retries(conn, id.0).await?;
    count_ended(conn, id, how, waiting + retrying).await?;
    Ok(waiting + retrying)
}

/// Adds to the job's own count of requests that ended without a result.
pub async fn count_ended(conn: &mut PgConnection, id: JobId, how: EndAs, n: i64) -> Result<()> {
    let (cancelled, expired) = if how == EndAs::Cancelled { (n, 0) } else { (0, n) };
    query!(
        "update job set cancelled = cancelled + $2, expired = expired + $3 where job_id = $1",
        id.0,
        cancelled,
        expired
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// No new call starts from here on; it ends when the calls under way are settled. The caller must hold the job's lock.
pub async fn set_cancelling(conn: &mut PgConnection, id: JobId) -> Result<()> {
    query!("update job set state = 'cancelling' where job_id = $1 and state in ('queued', 'running', 'paused')", id.0)
        .execute(conn)
        .await?;
    Ok(())
}

/// Whether jobs that others come after are ended too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Followed {
    /// Their followers are the caller's, in the same transaction.
    Ended,
    Left,
}

/// Ends those of the jobs that have no flow left; gives which. One that had ended before stays as it is. The caller
/// must hold the jobs' locks.
pub async fn finish(conn: &mut PgConnection, ids: &[i64], retention: Duration, followed: Followed) -> Result<Vec<i64>> {
    query_scalar!(
        "update job j set
             -- A job whose last answer came before its cancellation lost nothing by it.
             state = case when state = 'cancelling' and cancelled > 0 then 'cancelled' when expired > 0 then 'expired'
                          else 'completed' end,
             finished_at = now(), purge_at = now() + make_interval(secs => $2)
         where j.job_id = any($1) and j.state in ('queued', 'running', 'cancelling')
           and not exists (select 1 from flow f where f.job_id = j.job_id)
           and ($3 or not exists (select 1 from job a where a.after_job = j.job_id and a.finished_at is null))
         returning j.job_id",
        ids,
        retention.as_secs_f64(),
        followed == Followed::Ended,
    )
    .fetch_all(conn)
    .await
}

/// Locks those of the jobs whose end concerns nobody but themselves: they run, and nobody is told of it. Some may be locked by
/// others at the moment, and are left out.
pub async fn lock_plain(conn: &mut PgConnection, ids: &[i64]) -> Result<Vec<i64>> {
    query_scalar!(
        "select job_id from job
         where job_id = any($1) and state in ('queued', 'running') and webhook_url is null
         order by job_id for update skip locked",
        ids,
    )
    .fetch_all(conn)
    .await
}

/// Where a job's end is to be told, if anywhere.
pub async fn webhook_of(conn: &mut PgConnection, id: JobId) -> Result<Option<(i64, String)>> {
    let row = query!("select team_id, webhook_url from job where job_id = $1", id.0).fetch_optional(conn).await?;
    Ok(row.and_then(|r| r.webhook_url.map(|url| (r.team_id, url))))
}
