//! Claimed requests.

use std::time::Duration;

use sqlx::{PgConnection, query_as};
use uuid::Uuid;

use crate::{Result, copy::Rows};

/// The key of a lease. Its epoch is the fencing token: only its holder may act on the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseKey {
    pub flow_id: i64,
    pub pos: i32,
    pub epoch: i32,
}

/// A request that is claimed, and the call that it is claimed for.
#[derive(Debug, Clone, Copy)]
pub struct NewLease<'a> {
    pub key: LeaseKey,
    pub attempt_no: i32,
    pub attempt_id: Uuid,
    pub deployment: &'a str,
    /// Failed tries that count against the job's max_attempts.
    pub failures: i16,
}

const COPY: &str = "copy lease (flow_id, pos, epoch, worker_id, attempt_no, attempt_id, deployment, failures) from stdin (format binary)";

/// Inserts the leases of the claimed requests. The commit of this transaction precedes their calls.
pub async fn insert<'a>(
    conn: &mut PgConnection,
    worker_id: i64,
    leases: impl ExactSizeIterator<Item = NewLease<'a>>,
) -> Result<()> {
    let mut rows = Rows::new(8, 128 * leases.len());
    for lease in leases {
        let LeaseKey { flow_id, pos, epoch } = lease.key;
        rows.row()
            .i64(flow_id)
            .i32(pos)
            .i32(epoch)
            .i64(worker_id)
            .i32(lease.attempt_no)
            .uuid(lease.attempt_id)
            .text(lease.deployment)
            .i16(lease.failures);
    }
    crate::copy::send(conn, COPY, &mut rows).await?;
    Ok(())
}

/// A lease of a dead worker, with what its ledger row and its retry need.
#[derive(Debug, Clone)]
pub struct Orphan {
    pub flow_id: i64,
    pub pos: i32,
    pub epoch: i32,
    pub attempt_no: i32,
    pub attempt_id: Uuid,
    pub deployment: String,
    pub failures: i16,
    pub claimed_at: chrono::DateTime<chrono::Utc>,
    pub started_at: Option<chrono::DateTime<chrono::Utc>>,
    pub job_id: i64,
    pub route: String,
    pub endpoint: i16,
    pub key_id: String,
    pub lane: String,
    pub max_attempts: i16,
    pub team: String,
    pub tags: serde_json::Value,
    pub line: i32,
    pub est_in: i32,
    pub max_out: Option<i32>,
    pub custom_id: String,
    pub submitted_at: chrono::DateTime<chrono::Utc>,
}

/// Takes up to `most` leases of a worker. The caller returns them to the queue in the same transaction.
pub async fn take_orphans(conn: &mut PgConnection, worker_id: i64, most: i64) -> Result<Vec<Orphan>> {
    query_as!(
        Orphan,
        r#"with taken as (
               delete from lease l using
                   (select flow_id, pos from lease where worker_id = $1 limit $2 for update skip locked) o
               where l.flow_id = o.flow_id and l.pos = o.pos
               returning l.*
           )
           select l.flow_id as "flow_id!", l.pos as "pos!", l.epoch as "epoch!", l.attempt_no as "attempt_no!",
                  l.attempt_id as "attempt_id!", l.deployment as "deployment!", l.failures as "failures!",
                  l.claimed_at as "claimed_at!", l.started_at, f.job_id as "job_id!", f.route as "route!",
                  f.endpoint as "endpoint!", f.key_id as "key_id!", f.lane as "lane!", f.max_attempts as "max_attempts!",
                  t.name as "team!", j.tags as "tags!", i.line as "line!", i.est_in as "est_in!", i.max_out,
                  i.custom_id as "custom_id!", j.created_at as "submitted_at!"
           from taken l
           join flow f on f.flow_id = l.flow_id
           join job j on j.job_id = f.job_id
           join team t on t.team_id = f.team_id
           cross join lateral (
               select line, est_in, max_out, custom_id from item where item.flow_id = l.flow_id and item.pos = l.pos limit 1
           ) i"#,
        worker_id,
        most,
    )
    .fetch_all(conn)
    .await
}

/// A lease of a worker, as the database has it.
#[derive(Debug, Clone)]
pub struct WorkerLease {
    pub flow_id: i64,
    pub pos: i32,
    pub epoch: i32,
    pub attempt_no: i32,
    pub failures: i16,
}

impl WorkerLease {
    pub fn key(&self) -> LeaseKey {
        LeaseKey { flow_id: self.flow_id, pos: self.pos, epoch: self.epoch }
    }
}

/// Leases of a worker that are older than `grace`: compared with its memory, they show those whose claim's acknowledgement
/// was lost.
pub async fn of_worker(conn: &mut PgConnection, worker_id: i64, grace: Duration) -> Result<Vec<WorkerLease>> {
    query_as!(
        WorkerLease,
        "select flow_id, pos, epoch, attempt_no, failures from lease
         where worker_id = $1 and claimed_at < now() - make_interval(secs => $2)",
        worker_id,
        grace.as_secs_f64(),
    )
    .fetch_all(conn)
    .await
}

/// The move of a lease from a failed attempt to the next one.
#[derive(Debug, Clone)]
pub struct Advance {
    pub key: LeaseKey,
    pub attempt_no: i32,
    pub attempt_id: Uuid,
    pub deployment: String,
    /// Attempts used up, the one that gives way included.
    pub failures: i16,
}

/// Gives the keys that were still held. A lease that is not among them was lost: its next call must not start.
pub async fn advance(conn: &mut PgConnection, advances: &[Advance]) -> Result<Vec<LeaseKey>> {
    let flow_ids: Vec<i64> = advances.iter().map(|a| a.key.flow_id).collect();
    let positions: Vec<i32> = advances.iter().map(|a| a.key.pos).collect();
    let epochs: Vec<i32> = advances.iter().map(|a| a.key.epoch).collect();
    let attempt_nos: Vec<i32> = advances.iter().map(|a| a.attempt_no).collect();
    let attempt_ids: Vec<Uuid> = advances.iter().map(|a| a.attempt_id).collect();
    let deployments: Vec<String> = advances.iter().map(|a| a.deployment.clone()).collect();
    let failures: Vec<i16> = advances.iter().map(|a| a.failures).collect();
    query_as!(
        LeaseKey,
        "update lease l set attempt_no = a.attempt_no, attempt_id = a.attempt_id, deployment = a.deployment,
             failures = a.failures, started_at = now()
         from unnest($1::bigint[], $2::integer[], $3::integer[], $4::integer[], $5::uuid[], $6::text[], $7::smallint[])
             as a(flow_id, pos, epoch, attempt_no, attempt_id, deployment, failures)
         where l.flow_id = a.flow_id and l.pos = a.pos and l.epoch = a.epoch
         returning l.flow_id, l.pos, l.epoch",
        &flow_ids,
        &positions,
        &epochs,
        &attempt_nos,
        &attempt_ids,
        &deployments,
        &failures,
    )
    .fetch_all(conn)
    .await
}

/// Ends leases, fenced by epoch; gives those that were still held.
pub async fn end(conn: &mut PgConnection, keys: &[LeaseKey]) -> Result<Vec<LeaseKey>> {
    let flow_ids: Vec<i64> = keys.iter().map(|k| k.flow_id).collect();
    let positions: Vec<i32> = keys.iter().map(|k| k.pos).collect();
    let epochs: Vec<i32> = keys.iter().map(|k| k.epoch).collect();
    query_as!(
        LeaseKey,
        "delete from lease l
         using unnest($1::bigint[], $2::integer[], $3::integer[]) as d(flow_id, pos, epoch)
         where l.flow_id = d.flow_id and l.pos = d.pos and l.epoch = d.epoch
         returning l.flow_id, l.pos, l.epoch",
        &flow_ids,
        &positions,
        &epochs,
    )
    .fetch_all(conn)
    .await
}
