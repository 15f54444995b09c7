//! Processes that hold leases, grants and intents. Their time is the database's.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, query, query_scalar};

use crate::Result;

/// Registers the worker; returns the database's time.
pub async fn register(
    conn: &mut PgConnection,
    worker_id: i64,
    host: &str,
    roles: &[String],
    slots: usize,
    lease: Duration,
) -> Result<DateTime<Utc>> {
    query_scalar!(
        r#"insert into worker (worker_id, host, roles, slots, lease_until)
           values ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5))
           on conflict (worker_id) do update set lease_until = excluded.lease_until
           returning clock_timestamp() as "now!""#,
        worker_id,
        host,
        roles,
        i32::try_from(slots).unwrap_or(i32::MAX),
        lease.as_secs_f64(),
    )
    .fetch_one(conn)
    .await
}

/// Prolongs the worker's lease and returns the database's time; `None` if the worker was declared dead and its leases
/// were returned.
pub async fn heartbeat(conn: &mut PgConnection, worker_id: i64, lease: Duration) -> Result<Option<DateTime<Utc>>> {
    query_scalar!(
        r#"update worker set lease_until = clock_timestamp() + make_interval(secs => $2)
           where worker_id = $1
           returning clock_timestamp() as "now!""#,
        worker_id,
        lease.as_secs_f64(),
    )
    .fetch_optional(conn)
    .await
}

/// Locks one worker whose lease has ended, but none of these, for the length of the transaction; other replicas pass over it.
pub async fn lock_dead(conn: &mut PgConnection, but: &[i64]) -> Result<Option<i64>> {
    query_scalar!(
        "select worker_id from worker where lease_until < clock_timestamp() and worker_id <> all ($1)
         limit 1 for update skip locked",
        but,
    )
    .fetch_optional(conn)
    .await
}

/// Removes a worker and its grants. Its leases, intents and uploads must have been returned before, in the same
/// transaction.
pub async fn remove(conn: &mut PgConnection, worker_id: i64) -> Result<()> {
    query!("delete from limit_use where worker_id = $1", worker_id).execute(&mut *conn).await?;
    query!("delete from worker where worker_id = $1", worker_id).execute(conn).await?;
    Ok(())
}

/// Whether intents, leases or uploads are still its own.
pub async fn holds(conn: &mut PgConnection, worker_id: i64) -> Result<bool> {
    query_scalar!(
        r#"select (exists (select 1 from intent where worker_id = $1) or exists (select 1 from lease where worker_id = $1)
                   or exists (select 1 from job where state = 'uploading' and upload_worker = $1)) as "holds!""#,
        worker_id,
    )
    .fetch_one(conn)
    .await
}

pub async fn database_now(conn: &mut PgConnection) -> Result<DateTime<Utc>> {
    query_scalar!(r#"select clock_timestamp() as "now!""#).fetch_one(conn).await
}

/// Ends its lease now, so that its requests are returned without waiting.
pub async fn expire(conn: &mut PgConnection, worker_id: i64) -> Result<()> {
    query!("update worker set lease_until = clock_timestamp() - interval '1 ms' where worker_id = $1", worker_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Requests of jobs that all processes which are alive run at once, together.
pub async fn slots(conn: &mut PgConnection) -> Result<i64> {
    query_scalar!(
        r#"select coalesce(sum(slots), 0)::bigint as "slots!"
           from worker where 'worker' = any (roles) and lease_until > now()"#
    )
    .fetch_one(conn)
    .await
}

/// Whether others still see it, alive or not.
pub async fn exists(conn: &mut PgConnection, worker_id: i64) -> Result<bool> {
    query_scalar!(r#"select exists (select 1 from worker where worker_id = $1) as "exists!""#, worker_id)
        .fetch_one(conn)
        .await
}
