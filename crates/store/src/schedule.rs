//! Jobs that are submitted again and again.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, query, query_as};

use crate::{Result, job::Scope};

#[derive(Debug)]
pub struct NewSchedule<'a> {
    pub schedule_id: i64,
    pub team_id: i64,
    pub key_id: &'a str,
    pub name: &'a str,
    pub cron: &'a str,
    pub time_zone: &'a str,
    pub skip_if_running: bool,
    pub params: serde_json::Value,
    /// gzip.
    pub lines: &'a [u8],
    pub requests: i64,
    pub next_at: DateTime<Utc>,
}

/// A schedule without its lines.
#[derive(Debug, Clone)]
pub struct ScheduleRow {
    pub schedule_id: i64,
    pub team: String,
    pub key_id: String,
    pub name: String,
    pub cron: String,
    pub time_zone: String,
    pub skip_if_running: bool,
    pub params: serde_json::Value,
    pub requests: i64,
    pub next_at: Option<DateTime<Utc>>,
    pub last_tick_at: Option<DateTime<Utc>>,
    pub last_job: Option<i64>,
    pub last_error: Option<String>,
    pub created_at: DateTime<Utc>,
}

/// False, with nothing written, when the team has one of this name, or as many as it may have.
pub async fn insert(conn: &mut PgConnection, new: &NewSchedule<'_>, most: i64) -> Result<bool> {
    // One at a time for a team, so that two at once cannot pass the bound together.
    query!("select team_id from team where team_id = $1 for no key update", new.team_id).fetch_one(&mut *conn).await?;
    let done = query!(
        "insert into schedule (schedule_id, team_id, key_id, name, cron, time_zone, skip_if_running, params, lines, requests,
                               next_at)
         select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11
         where (select count(*) from schedule where team_id = $2) < $12
         on conflict (team_id, name) do nothing",
        new.schedule_id,
        new.team_id,
        new.key_id,
        new.name,
        new.cron,
        new.time_zone,
        new.skip_if_running,
        new.params,
        new.lines,
        new.requests,
        new.next_at,
        most,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// By name; of one team, or of all.
pub async fn list(conn: &mut PgConnection, scope: Scope) -> Result<Vec<ScheduleRow>> {
    query_as!(
        ScheduleRow,
        "select s.schedule_id, t.name as team, s.key_id, s.name, s.cron, s.time_zone, s.skip_if_running, s.params, s.requests,
                s.next_at, s.last_tick_at, s.last_job, s.last_error, s.created_at
         from schedule s join team t on t.team_id = s.team_id
         where $1::bigint is null or s.team_id = $1
         order by t.name, s.name",
        scope.team(),
    )
    .fetch_all(conn)
    .await
}

pub async fn get(conn: &mut PgConnection, scope: Scope, schedule_id: i64) -> Result<Option<ScheduleRow>> {
    query_as!(
        ScheduleRow,
        "select s.schedule_id, t.name as team, s.key_id, s.name, s.cron, s.time_zone, s.skip_if_running, s.params, s.requests,
                s.next_at, s.last_tick_at, s.last_job, s.last_error, s.created_at
         from schedule s join team t on t.team_id = s.team_id
         where s.schedule_id = $1 and ($2::bigint is null or s.team_id = $2)",
        schedule_id,
        scope.team(),
    )
    .fetch_optional(conn)
    .await
}

/// False when there is none in scope. Its jobs stay.
pub async fn delete(conn: &mut PgConnection, scope: Scope, schedule_id: i64) -> Result<bool> {
    let gone = query!(
        "delete from schedule where schedule_id = $1 and ($2::bigint is null or team_id = $2)",
        schedule_id,
        scope.team(),
    )
    .execute(conn)
    .await?;
    Ok(gone.rows_affected() > 0)
}

/// A schedule whose tick has come, with all that its job needs.
#[derive(Debug)]
pub struct Due {
    pub schedule_id: i64,
    pub team_id: i64,
    pub key_id: String,
    pub name: String,
    pub cron: String,
    pub time_zone: String,
    pub skip_if_running: bool,
    pub params: serde_json::Value,
    pub lines: Vec<u8>,
    pub tick: DateTime<Utc>,
    /// Of the key that made it, as it is now; none when it was revoked, has expired, or its team is disabled.
    pub lanes: Vec<String>,
    /// The job of an earlier tick that has not ended.
    pub running: Option<i64>,
}

/// The one that has been due for longest, but for these.
pub async fn due(conn: &mut PgConnection, but: &[i64]) -> Result<Option<Due>> {
    query_as!(
        Due,
        r#"select s.schedule_id, s.team_id, s.key_id, s.name, s.cron, s.time_zone, s.skip_if_running, s.params, s.lines,
                  s.next_at as "tick!",
                  coalesce((select k.lanes from api_key k join team t on t.team_id = k.team_id
                            where k.key_id = s.key_id and k.revoked_at is null and t.disabled_at is null
                              and (k.expires_at is null or k.expires_at > now())), '{}') as "lanes!",
                  (select j.job_id from job j where j.job_id = s.last_job and j.finished_at is null) as running
           from schedule s where s.next_at <= now() and s.schedule_id <> all($1)
           order by s.next_at limit 1"#,
        but,
    )
    .fetch_optional(conn)
    .await
}

/// What came of a tick.
#[derive(Debug)]
pub struct Ticked<'a> {
    pub schedule_id: i64,
    pub tick: DateTime<Utc>,
    pub next_at: Option<DateTime<Utc>>,
    /// The job it made.
    pub job_id: Option<i64>,
    /// Why it made none.
    pub error: Option<&'a str>,
}

/// Goes on to the next tick; false when somebody has done so already.
pub async fn ticked(conn: &mut PgConnection, done: Ticked<'_>) -> Result<bool> {
    let done = query!(
        "update schedule set last_tick_at = $2, next_at = $3, last_job = coalesce($4, last_job), last_error = $5
         where schedule_id = $1 and next_at = $2",
        done.schedule_id,
        done.tick,
        done.next_at,
        done.job_id,
        done.error,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() > 0)
}
