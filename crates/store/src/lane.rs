//! Lanes: who declared which, and what waits in them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::{Lane, catalog::LaneRule, waits::Waits};
use sqlx::{PgConnection, query, query_scalar, types::Json};

use crate::{Result, job::Scope};

/// A lane that somebody declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneRow {
    pub lane: Lane,
    /// `None`: a lane that exists by default was removed.
    pub rule: Option<LaneRule>,
    pub is_file_managed: bool,
}

pub async fn list(conn: &mut PgConnection) -> Result<Vec<LaneRow>> {
    let rows = query!(r#"select lane, rule as "rule: Json<LaneRule>", managed_by from lane_rule order by lane"#)
        .fetch_all(conn)
        .await?;
    rows.into_iter()
        .map(|row| {
            let lane = row.lane.parse().map_err(|bad: domain::lane::BadLane| sqlx::Error::Decode(Box::new(bad)))?;
            Ok(LaneRow { lane, rule: row.rule.map(|rule| rule.0), is_file_managed: row.managed_by == "file" })
        })
        .collect()
}

/// Declares a lane that the API manages, or with `None` that a default one is not there. In the transaction that makes it
/// part of the active configuration.
pub async fn set(conn: &mut PgConnection, lane: &Lane, rule: Option<&LaneRule>, by: &str) -> Result<()> {
    query!(
        "insert into lane_rule (lane, rule, managed_by, changed_by) values ($1, $2, 'api', $3)
         on conflict (lane) do update set rule = excluded.rule, changed_at = now(), changed_by = excluded.changed_by
         where lane_rule.managed_by = 'api'",
        lane.as_str(),
        rule.map(Json) as _,
        by,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets a lane that the API manages.
pub async fn forget(conn: &mut PgConnection, lane: &Lane) -> Result<()> {
    query!("delete from lane_rule where lane = $1 and managed_by = 'api'", lane.as_str()).execute(conn).await?;
    Ok(())
}

/// Makes the lanes that the file manages exactly these; one that the API made becomes the file's. In the transaction that
/// applies the file.
pub async fn follow_file<'a>(
    conn: &mut PgConnection,
    lanes: impl Iterator<Item = (&'a Lane, &'a LaneRule)>,
    by: &str,
) -> Result<()> {
    let (names, rules): (Vec<String>, Vec<Json<&LaneRule>>) =
        lanes.map(|(lane, rule)| (lane.to_string(), Json(rule))).unzip();
    query!(
        "insert into lane_rule as l (lane, rule, managed_by, changed_by)
         select f.lane, f.rule, 'file', $3 from unnest($1::text[], $2::jsonb[]) as f(lane, rule)
         on conflict (lane) do update
             set rule = excluded.rule, managed_by = 'file', changed_at = now(), changed_by = excluded.changed_by
         where (l.rule, l.managed_by) is distinct from (excluded.rule, 'file')",
        &names,
        &rules as _,
        by,
    )
    .execute(&mut *conn)
    .await?;
    query!("delete from lane_rule where managed_by = 'file' and lane <> all ($1::text[])", &names)
        .execute(conn)
        .await?;
    Ok(())
}

pub async fn has_unfinished_jobs(conn: &mut PgConnection, lane: &Lane) -> Result<bool> {
    query_scalar!(
        r#"select exists (select 1 from job where finished_at is null and lane = $1) as "any!""#,
        lane.as_str(),
    )
    .fetch_one(conn)
    .await
}

/// Lanes that are not among these, and in which requests wait or run.
pub async fn unknown_with_work(conn: &mut PgConnection, known: &BTreeMap<Lane, LaneRule>) -> Result<Vec<Lane>> {
    let known: Vec<String> = known.keys().map(ToString::to_string).collect();
    let lanes = query_scalar!(
        "select distinct s.lane from share s
         where s.lane <> all ($1)
           and exists (select 1 from flow f where f.lane = s.lane and f.team_id = s.team_id)",
        &known,
    )
    .fetch_all(conn)
    .await?;
    Ok(lanes.iter().filter_map(|lane| lane.parse().ok()).collect())
}

/// Ids of keys in force that may use the lane, at most `most`.
pub async fn keys_naming(conn: &mut PgConnection, lane: &Lane, most: i64) -> Result<Vec<String>> {
    query_scalar!(
        "select key_id from api_key where revoked_at is null and $1 = any (lanes) order by key_id limit $2",
        lane.as_str(),
        most,
    )
    .fetch_all(conn)
    .await
}

/// What a lane's queue looks like.
#[derive(Debug, Clone)]
pub struct LaneView {
    pub lane: String,
    pub waiting: i64,
    pub retrying: i64,
    pub in_flight: i64,
    /// When the oldest job with waiting requests was submitted.
    pub oldest_at: Option<DateTime<Utc>>,
    pub teams: i64,
    /// Why its head waits, when anything does.
    pub waits: Option<Waits>,
}

/// Waiting requests are counted from cursors, so a million of one job cost what one costs.
pub async fn busy(conn: &mut PgConnection, scope: Scope) -> Result<Vec<LaneView>> {
    let rows = query!(
        r#"with teams as (
               select lane, team_id, sum(tail_pos - next_pos) as waiting,
                      min(flow_id) filter (where next_pos < tail_pos) as oldest
               from flow where $1::bigint is null or team_id = $1
               group by lane, team_id
           ), lanes as (
               -- Ids hold the milliseconds of their making.
               select lane, sum(waiting)::bigint as waiting, count(*) as teams,
                      to_timestamp((min(oldest) >> 22) / 1000.0) as oldest_at
               from teams group by lane
           ), leased as (
               select f.lane, count(*) as n from lease l join flow f on f.flow_id = l.flow_id
               where $1::bigint is null or f.team_id = $1
               group by f.lane
           ), retrying as (
               select f.lane, count(*) as n from retry r join flow f on f.flow_id = r.flow_id
               where $1::bigint is null or f.team_id = $1
               group by f.lane
           )
           select f.lane as "lane!", f.waiting as "waiting!", coalesce(r.n, 0) as "retrying!", coalesce(l.n, 0) as "in_flight!",
                  f.oldest_at, f.teams as "teams!", w.reason as "reason?", w.detail as "detail?", w.until as "until?"
           from lanes f
           left join leased l on l.lane = f.lane
           left join retrying r on r.lane = f.lane
           -- The head: of each team the flow that is served next, or one that may not run when there is no other; of these what
           -- may run before what may not, and then that of the team which used least. An index gives each of them.
           left join lateral (
               select coalesce(runs.reason, held.reason) as reason, coalesce(runs.detail, held.detail) as detail,
                      coalesce(runs.until, held.until) as until
               from teams t
               left join lateral (
                   select reason, detail, until from flow_wait
                   where lane = t.lane and team_id = t.team_id and state = 'ready'
                     and (start_at is null or start_at <= now())
                   order by priority desc, served_at, flow_id
                   limit 1
               ) runs on true
               left join lateral (
                   select reason, detail, until from flow_wait
                   where lane = t.lane and team_id = t.team_id and runs.reason is null
                   order by priority desc, served_at, flow_id
                   limit 1
               ) held on true
               left join share s on s.lane = t.lane and s.team_id = t.team_id
               where t.lane = f.lane and coalesce(runs.reason, held.reason) is not null
               order by runs.reason is null, runs.reason not in ('no_slot', 'no_worker'), s.level, s.served_at
               limit 1
           ) w on true
           order by f.lane"#,
        scope.team(),
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| LaneView {
            lane: row.lane,
            waiting: row.waiting,
            retrying: row.retrying,
            in_flight: row.in_flight,
            oldest_at: row.oldest_at,
            teams: row.teams,
            waits: row.reason.map(|reason| Waits::of_stored(&reason, row.detail, row.until)),
        })
        .collect())
}
