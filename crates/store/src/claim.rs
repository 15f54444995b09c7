//! The claim: one transaction of separate statements, in this order. A single statement would count limits and cursors by
//! a snapshot from before its locks.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, query, query_as, query_scalar};

use crate::Result;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareRow {
    pub lane: String,
    pub team_id: i64,
    pub weight: i32,
    /// Slot-time it used, in µs for its weight, as far as it was billed.
    pub level: i64,
    /// What a call of it takes, in µs; 0: not known.
    pub cost: i64,
    /// Woken since a claim last examined it: it comes back after being idle.
    pub woken: bool,
}

/// Locks the shares of each lane that have used least, at most `per_lane`; those that another claim holds are passed over.
pub async fn lock_shares(conn: &mut PgConnection, lanes: &[String], per_lane: i64) -> Result<Vec<ShareRow>> {
    query_as!(
        ShareRow,
        r#"select s.lane as "lane!", s.team_id as "team_id!", s.weight as "weight!", s.level as "level!", s.cost as "cost!",
                  s.blocked_until = '-infinity' as "woken!"
           from unnest($1::text[]) as l(lane)
           cross join lateral (
               select lane, team_id, weight, level, cost, blocked_until from share
               where lane = l.lane and blocked_until <= now()
               order by level, served_at
               limit $2
               for no key update skip locked
           ) s"#,
        lanes,
        per_lane,
    )
    .fetch_all(conn)
    .await
}

/// The join time of each lane: the virtual time at which a share that was idle comes back. It is the lowest of the
/// competing shares, or the highest of all when none competes. Idle time earns no credit, and a newcomer does not wait
/// for what others used before it came.
pub async fn join_times(conn: &mut PgConnection, lanes: &[String]) -> Result<HashMap<String, i64>> {
    let rows = query!(
        r#"select lane, coalesce(min(level) filter (where blocked_until > '-infinity' and blocked_until <= now()), max(level)) as "level!"
           from share where lane = any($1) group by lane"#,
        lanes,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.lane, row.level)).collect())
}

/// A flow as a claim sees it, with what its requests need of job and team.
#[derive(Debug, Clone)]
pub struct FlowRow {
    pub flow_id: i64,
    pub job_id: i64,
    pub team_id: i64,
    pub team: String,
    pub lane: String,
    pub route: String,
    pub endpoint: i16,
    pub key_id: String,
    pub priority: i16,
    pub next_pos: i32,
    pub tail_pos: i32,
    pub max_in: i32,
    pub max_out: Option<i32>,
    pub max_attempts: i16,
    pub deadline_at: Option<DateTime<Utc>>,
    pub submitted_at: DateTime<Utc>,
    pub tags: serde_json::Value,
    /// The most that its job may cost.
    pub max_cost: Option<String>,
    /// Since when the flow has been blocked; `None` if its last request was admitted.
    pub held_since: Option<DateTime<Utc>>,
    /// What refused it last is still noted as what it waits for.
    pub has_reason: bool,
    /// Retries that are due, counted up to a bound.
    pub due_retries: i64,
}

/// Reads and locks the flows of the locked shares, with a snapshot taken after the locks: by priority, then those that are not
/// held, then by age. `per_share` of each, and, where those have fewer than `wanted` requests, more of them, up to `most`: a
/// thousand jobs of one request fill the slots as one of a thousand does.
/// Pausing or cancelling waits for the claim's commit, and the claim for theirs.
pub async fn flows(
    conn: &mut PgConnection,
    shares: &[ShareRow],
    per_share: i64,
    most: i64,
    wanted: i64,
) -> Result<Vec<FlowRow>> {
    let lanes: Vec<String> = shares.iter().map(|s| s.lane.clone()).collect();
    let teams: Vec<i64> = shares.iter().map(|s| s.team_id).collect();
    query_as!(
        FlowRow,
        r#"select f.flow_id as "flow_id!", f.job_id as "job_id!", f.team_id as "team_id!", t.name as "team!", f.lane as "lane!",
                  f.route as "route!", f.endpoint as "endpoint!", f.key_id as "key_id!", f.priority as "priority!",
                  f.next_pos as "next_pos!", f.tail_pos as "tail_pos!", f.max_in as "max_in!", f.max_out,
                  f.max_attempts as "max_attempts!", f.deadline_at, j.created_at as "submitted_at!", j.tags as "tags!", j.max_cost::text as max_cost,
                  nullif(f.served_at, '-infinity') as held_since, f.blocked_reason is not null as "has_reason!",
                  r.due as "due_retries!"
           from unnest($1::text[], $2::bigint[]) as s(lane, team_id)
           cross join lateral (
               select locked.* from (
                   select flow_id, row_number() over w as place,
                          sum(tail_pos - next_pos) over w - (tail_pos - next_pos) as before
                   from (
                       select flow_id, priority, served_at, next_pos, tail_pos from flow
                       where lane = s.lane and team_id = s.team_id and state = 'ready'
                         and blocked_until <= now() and (start_at is null or start_at <= now())
                         -- What is past it is ended by the finisher.
                         and (deadline_at is null or deadline_at > now())
                       order by priority desc, served_at, flow_id
                       limit greatest($3::bigint, $4::bigint)
                   ) first
                   window w as (order by priority desc, served_at, flow_id)
               ) ordered
               -- By its key, one by one: given as a list, a thousand flows are read from end to end for every share.
               cross join lateral (
                   select * from flow
                   -- Again, of the row as it is once it is locked.
                   where flow_id = ordered.flow_id and state = 'ready' and blocked_until <= now()
                   limit 1
                   for no key update skip locked
               ) locked
               -- Beyond `per_share` only as long as those before cannot fill the slots.
               where place <= $3 or before < $5
           ) f
           -- A row of each by its key: as plain joins, a thousand jobs are read from end to end for every share.
           cross join lateral (select created_at, tags, max_cost from job where job_id = f.job_id limit 1) j
           cross join lateral (select name from team where team_id = f.team_id limit 1) t
           -- Counted up to a bound: a million due retries must not cost a claim a million index entries.
           cross join lateral (
               select count(*) as due from
                   (select 1 from retry where flow_id = f.flow_id and due_at <= now() limit $5) d
           ) r"#,
        &lanes,
        &teams,
        per_share,
        most,
        wanted,
    )
    .fetch_all(conn)
    .await
}

#[derive(Debug, Clone)]
pub struct RetryRow {
    pub flow_id: i64,
    pub pos: i32,
    pub epoch: i32,
    pub attempt_no: i32,
    pub failures: i16,
    pub last_deployment: Option<String>,
}

/// Takes due retries of the flows, as many of each as it was granted.
pub async fn take_retries(conn: &mut PgConnection, flow_ids: &[i64], counts: &[i64]) -> Result<Vec<RetryRow>> {
    query_as!(
        RetryRow,
        r#"delete from retry r using (
               select d.flow_id, d.pos
               from unnest($1::bigint[], $2::bigint[]) as g(flow_id, n)
               cross join lateral (
                   select flow_id, pos from retry
                   where flow_id = g.flow_id and due_at <= now()
                   order by due_at limit g.n
               ) d
           ) d
           where r.flow_id = d.flow_id and r.pos = d.pos
           returning r.flow_id, r.pos, r.epoch, r.attempt_no, r.failures, r.last_deployment"#,
        flow_ids,
        counts,
    )
    .fetch_all(conn)
    .await
}

#[derive(Debug, Clone)]
pub struct Body {
    pub flow_id: i64,
    pub pos: i32,
    pub line: i32,
    pub est_in: i32,
    pub max_out: Option<i32>,
    pub custom_id: String,
    pub body: String,
}

/// Reads runs of items: `n` from `from_pos` on, of each flow. A range of the primary key each, whatever the statistics say.
pub async fn bodies(conn: &mut PgConnection, flow_ids: &[i64], from_pos: &[i32], counts: &[i32]) -> Result<Vec<Body>> {
    query_as!(
        Body,
        r#"select i.flow_id as "flow_id!", i.pos as "pos!", i.line as "line!", i.est_in as "est_in!", i.max_out,
                  i.custom_id as "custom_id!", i.body as "body!"
           from unnest($1::bigint[], $2::integer[], $3::integer[]) as w(flow_id, from_pos, n)
           cross join lateral (
               select * from item
               where item.flow_id = w.flow_id and item.pos >= w.from_pos and item.pos < w.from_pos + w.n
               order by item.pos
               limit w.n
           ) i"#,
        flow_ids,
        from_pos,
        counts,
    )
    .fetch_all(conn)
    .await
}

/// The decisions of a claim about each flow and share that it examined. Each moves back in the order or sleeps, even if
/// it was granted nothing: otherwise two teams at their cap would stay first for ever and starve a third. A share moves
/// back by the slot-time it was charged; a flow keeps its place by age, unless it is blocked.
#[derive(Debug, Default)]
pub struct Verdicts {
    pub flow_ids: Vec<i64>,
    /// How far the cursor moves.
    pub advances: Vec<i32>,
    pub flow_blocked_until: Vec<Option<DateTime<Utc>>>,
    /// Sleeps until something wakes it.
    pub flow_asleep: Vec<bool>,
    pub flow_reasons: Vec<Option<String>>,
    /// Since when it is refused, if it is.
    pub flow_held_since: Vec<Option<DateTime<Utc>>>,
    pub share_lanes: Vec<String>,
    pub share_teams: Vec<i64>,
    pub share_levels: Vec<i64>,
    pub share_costs: Vec<i64>,
    pub share_blocked_until: Vec<Option<DateTime<Utc>>>,
    pub share_asleep: Vec<bool>,
}

/// Advances cursors, puts flows and shares in their new order.
pub async fn grant(conn: &mut PgConnection, verdicts: &Verdicts) -> Result<()> {
    query!(
        "with moved as (
             update flow f set next_pos = f.next_pos + v.advance, served_at = coalesce(v.held_since, '-infinity'),
                 blocked_until = case when v.asleep then 'infinity' else coalesce(v.blocked_until, '-infinity') end,
                 blocked_reason = v.reason
             from unnest($1::bigint[], $2::integer[], $3::timestamptz[], $4::boolean[], $5::text[], $6::timestamptz[])
                 as v(flow_id, advance, blocked_until, asleep, reason, held_since)
             where f.flow_id = v.flow_id
         )
         -- Not '-infinity': that is left by those who wake it.
         update share s set served_at = clock_timestamp(), level = v.level, cost = v.cost,
             blocked_until = case when v.asleep then 'infinity' else coalesce(v.blocked_until, now()) end
         from unnest($7::text[], $8::bigint[], $9::bigint[], $10::bigint[], $11::timestamptz[], $12::boolean[])
             as v(lane, team_id, level, cost, blocked_until, asleep)
         where s.lane = v.lane and s.team_id = v.team_id",
        &verdicts.flow_ids,
        &verdicts.advances,
        &verdicts.flow_blocked_until as &[Option<DateTime<Utc>>],
        &verdicts.flow_asleep,
        &verdicts.flow_reasons as &[Option<String>],
        &verdicts.flow_held_since as &[Option<DateTime<Utc>>],
        &verdicts.share_lanes,
        &verdicts.share_teams,
        &verdicts.share_levels,
        &verdicts.share_costs,
        &verdicts.share_blocked_until as &[Option<DateTime<Utc>>],
        &verdicts.share_asleep,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Marks jobs as running. Outside the claim's transaction: cancelling locks the job before its flows.
pub async fn mark_running(conn: &mut PgConnection, job_ids: &[i64]) -> Result<()> {
    query!(
        "update job set state = 'running', started_at = coalesce(started_at, now())
         where job_id = any($1) and state = 'queued'",
        job_ids,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// When the first of the lanes' shares can be claimed again: now, if another claim has it locked; `None`: not before it
/// is woken.
pub async fn next_wake(conn: &mut PgConnection, lanes: &[String]) -> Result<Option<DateTime<Utc>>> {
    query_scalar!(
        "select min(greatest(blocked_until, now())) from share where lane = any($1) and blocked_until < 'infinity'",
        lanes,
    )
    .fetch_one(conn)
    .await
}

/// When the first flow of each share, but for those in `read`, may run again; `None`: not before it is woken. The shares are
/// locked.
pub async fn share_wakes(
    conn: &mut PgConnection,
    shares: &[&ShareRow],
    read: &[i64],
) -> Result<HashMap<(String, i64), Option<DateTime<Utc>>>> {
    let lanes: Vec<String> = shares.iter().map(|s| s.lane.clone()).collect();
    let teams: Vec<i64> = shares.iter().map(|s| s.team_id).collect();
    let rows = query!(
        r#"select s.lane as "lane!", s.team_id as "team_id!", f.wakes
           from unnest($1::text[], $2::bigint[]) as s(lane, team_id)
           cross join lateral (
               select min(greatest(blocked_until, coalesce(start_at, '-infinity'), now())) as wakes from flow
               where lane = s.lane and team_id = s.team_id and state = 'ready' and blocked_until < 'infinity'
                 and (deadline_at is null or deadline_at > now()) and flow_id <> all($3)
           ) f"#,
        &lanes,
        &teams,
        read,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| ((row.lane, row.team_id), row.wakes)).collect())
}
