//! Requests that wait for their next try. They hold no slot.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, query, query_scalar};

use crate::Result;

#[derive(Debug, Clone)]
pub struct NewRetry {
    pub flow_id: i64,
    pub pos: i32,
    /// The epoch its next lease will have.
    pub epoch: i32,
    /// Provider calls so far.
    pub attempt_no: i32,
    pub failures: i16,
    pub due_at: DateTime<Utc>,
    pub last_error: Option<String>,
    pub last_deployment: Option<String>,
}

/// In the transaction that ends the lease.
pub async fn insert(conn: &mut PgConnection, retries: &[NewRetry]) -> Result<()> {
    if retries.is_empty() {
        return Ok(());
    }
    let flow_ids: Vec<i64> = retries.iter().map(|r| r.flow_id).collect();
    let positions: Vec<i32> = retries.iter().map(|r| r.pos).collect();
    let epochs: Vec<i32> = retries.iter().map(|r| r.epoch).collect();
    let attempt_nos: Vec<i32> = retries.iter().map(|r| r.attempt_no).collect();
    let failures: Vec<i16> = retries.iter().map(|r| r.failures).collect();
    let due: Vec<DateTime<Utc>> = retries.iter().map(|r| r.due_at).collect();
    let errors: Vec<Option<String>> = retries.iter().map(|r| r.last_error.clone()).collect();
    let deployments: Vec<Option<String>> = retries.iter().map(|r| r.last_deployment.clone()).collect();
    query!(
        "insert into retry (flow_id, pos, epoch, attempt_no, failures, due_at, last_error, last_deployment)
         select * from unnest($1::bigint[], $2::integer[], $3::integer[], $4::integer[], $5::smallint[], $6::timestamptz[],
                              $7::text[], $8::text[])",
        &flow_ids,
        &positions,
        &epochs,
        &attempt_nos,
        &failures,
        &due,
        &errors as &[Option<String>],
        &deployments as &[Option<String>],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Wakes the flows, and their shares, of which a retry has become due. Settling never touches flows, so somebody must; the
/// advisory lock makes it one replica at a time. Gives the number of flows woken.
pub async fn wake_due(conn: &mut PgConnection) -> Result<u64> {
    let mine = query_scalar!(r#"select pg_try_advisory_xact_lock(hashtext('tollway_wake_due')) as "mine!""#)
        .fetch_one(&mut *conn)
        .await?;
    if !mine {
        return Ok(0);
    }
    // From one flow with retries to the next, by the index: neither a million retries of one flow nor a million flows without
    // any cost more than a step.
    let woken = query!(
        "with recursive retried as (
             (select flow_id from retry order by flow_id limit 1)
             union all
             select (select flow_id from retry where flow_id > r.flow_id order by flow_id limit 1)
             from retried r where r.flow_id is not null
         ), due as (
             select f.flow_id from retried d
             cross join lateral (
                 select flow_id from flow
                 where flow_id = d.flow_id and blocked_until = 'infinity' and state = 'ready'
                   and exists (select 1 from retry r where r.flow_id = d.flow_id and r.due_at <= now())
                 limit 1
                 for no key update skip locked
             ) f
         ), woken as (
             update flow set blocked_until = '-infinity' where flow_id = any(array(select flow_id from due))
             returning lane, team_id
         )
         select distinct lane, team_id from woken order by lane, team_id",
    )
    .fetch_all(&mut *conn)
    .await?;
    if woken.is_empty() {
        return Ok(0);
    }
    let lanes: Vec<String> = woken.iter().map(|w| w.lane.clone()).collect();
    let teams: Vec<i64> = woken.iter().map(|w| w.team_id).collect();
    crate::share::wake(conn, &lanes, &teams).await?;
    Ok(woken.len() as u64)
}
