//! An upload on its way into the queue: `begin`, `append` chunk by chunk, `finish`; or `abandon` and `sweep`. Until `finish`
//! commits there is no flow, so nothing of it can run.

mod abandon;

use chrono::{DateTime, Utc};
use domain::After;
use sqlx::{PgConnection, PgPool, Postgres, Transaction, query, query_scalar};

use crate::{
    Result,
    copy::{self, Rows},
    idempotency, share,
};

pub use self::abandon::{abandon, abandon_uploads_of, sweep};

/// Claims wait on this channel; the payload is the lane.
pub const WORK_CHANNEL: &str = "tollway_work";
const ITEM_COLUMNS: i16 = 7;
const COPY_ITEMS: &str = "copy item (flow_id, pos, line, est_in, max_out, custom_id, body) from stdin (format binary)";

/// Who fills a job. Once it was given up in the worker's place, the worker's appends no longer find it.
#[derive(Debug, Clone, Copy)]
pub struct Upload {
    pub job_id: i64,
    pub worker_id: i64,
}

#[derive(Debug)]
pub struct NewJob<'a> {
    pub upload: Upload,
    pub team_id: i64,
    pub key_id: &'a str,
    pub lane: &'a str,
    pub name: Option<&'a str>,
    pub tags: serde_json::Value,
    pub priority: i16,
    pub max_attempts: i16,
    pub retry_of: Option<i64>,
    pub after: Option<After>,
    pub webhook_url: Option<&'a str>,
    pub start_at: Option<DateTime<Utc>>,
    pub deadline_at: Option<DateTime<Utc>>,
}

/// One request, as it is stored.
#[derive(Debug, Clone, Copy)]
pub struct NewItem<'a> {
    pub flow_id: i64,
    pub pos: i32,
    pub line: i32,
    pub est_in: i32,
    pub max_out: Option<i32>,
    /// Without NUL.
    pub custom_id: &'a str,
    pub body: &'a str,
}

/// Requests that go into the table together.
#[derive(Debug)]
pub struct Items(Rows);

impl Items {
    pub fn new(capacity: usize) -> Self {
        Self(Rows::new(ITEM_COLUMNS, capacity))
    }
    pub fn push(&mut self, item: NewItem<'_>) {
        let mut row = self.0.row();
        row.i64(item.flow_id).i32(item.pos).i32(item.line).i32(item.est_in);
        row.some(item.max_out, |row, most| row.i32(most)).text(item.custom_id).text(item.body);
    }
    pub fn len(&self) -> usize {
        self.0.len()
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

/// The requests of a job that share a route, when all of them are in.
#[derive(Debug, Clone)]
pub struct NewFlow {
    pub flow_id: i64,
    pub route: String,
    pub endpoint: i16,
    pub items: i32,
    pub max_in: i32,
    pub max_out: Option<i32>,
}

/// Makes the job, in state `uploading`.
pub async fn begin(conn: &mut PgConnection, job: &NewJob<'_>) -> Result<()> {
    query!(
        "insert into job (job_id, team_id, key_id, lane, name, tags, priority, max_attempts, state, upload_worker, retry_of,
                          webhook_url, start_at, deadline_at, after_job, after_on)
         values ($1, $2, $3, $4, $5, $6, $7, $8, 'uploading', $9, $10, $11, $12, $13, $14, $15)",
        job.upload.job_id,
        job.team_id,
        job.key_id,
        job.lane,
        job.name,
        job.tags,
        job.priority,
        job.max_attempts,
        job.upload.worker_id,
        job.retry_of,
        job.webhook_url,
        job.start_at,
        job.deadline_at,
        job.after.map(|after| after.job.0),
        job.after.map(|after| after.on.as_str()),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A transaction for [`append`]. Its commit does not wait for the disk: that of [`finish`] does, and the log is written in
/// order. A database that dies in between takes back what it had not written, and with the items their part of
/// `job.accepted`, by which [`finish`] finds out. So a job that runs has all its items.
pub async fn begin_append(pool: &PgPool) -> Result<Transaction<'static, Postgres>> {
    pool.begin_with("begin; set local synchronous_commit = off").await
}

/// Adds the items and empties the buffer, inside a transaction. `flow_ids` are all flows of the job so far: by them an
/// abandoned upload finds its items. False, with nothing written: the upload was given up in this worker's place.
pub async fn append(conn: &mut PgConnection, upload: Upload, flow_ids: &[i64], items: &mut Items) -> Result<bool> {
    if !count_in(conn, upload, flow_ids, items.len() as i64, items.bytes() as i64).await? {
        return Ok(false);
    }
    copy::send(conn, COPY_ITEMS, &mut items.0).await?;
    Ok(true)
}

/// Counts requests that are being added to a job in state `uploading`. False, with nothing written: the upload was given up in
/// this worker's place.
pub(crate) async fn count_in(
    conn: &mut PgConnection,
    upload: Upload,
    flow_ids: &[i64],
    requests: i64,
    bytes: i64,
) -> Result<bool> {
    let ours = query!(
        "update job set flow_ids = $3, accepted = accepted + $4, bytes = bytes + $5
         where job_id = $1 and state = 'uploading' and upload_worker = $2",
        upload.job_id,
        upload.worker_id,
        flow_ids,
        requests,
        bytes,
    )
    .execute(conn)
    .await?;
    Ok(ours.rows_affected() > 0)
}

/// Whether a new job may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    AtOnce,
    /// It waits for another job to end.
    WaitingOnJob,
}

/// Makes the job runnable and tells the claims, inside a transaction that had better end at once: it holds the team's share.
/// False, with nothing written: the upload was given up in this worker's place, or the database lost items of it.
pub async fn finish(
    conn: &mut PgConnection,
    upload: Upload,
    flows: &[NewFlow],
    fingerprint: &[u8],
    begin: Begin,
) -> Result<bool> {
    let ids: Vec<i64> = flows.iter().map(|flow| flow.flow_id).collect();
    let accepted: i64 = flows.iter().map(|flow| i64::from(flow.items)).sum();
    let routes: Vec<String> = flows.iter().map(|flow| flow.route.clone()).collect();
    let endpoints: Vec<i16> = flows.iter().map(|flow| flow.endpoint).collect();
    let job = query!(
        "update job set state = 'queued', upload_worker = null, flow_ids = $4, routes = $5, endpoints = $6
         where job_id = $1 and state = 'uploading' and upload_worker = $2 and accepted = $3
         returning lane, team_id",
        upload.job_id,
        upload.worker_id,
        accepted,
        &ids,
        &routes,
        &endpoints,
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(job) = job else { return Ok(false) };
    let tails: Vec<i32> = flows.iter().map(|flow| flow.items).collect();
    let max_in: Vec<i32> = flows.iter().map(|flow| flow.max_in).collect();
    let max_out: Vec<Option<i32>> = flows.iter().map(|flow| flow.max_out).collect();
    query!(
        "insert into flow (flow_id, job_id, team_id, lane, route, endpoint, key_id, priority, tail_pos, max_in, max_out,
                           max_attempts, start_at, deadline_at, state)
         select f.flow_id, j.job_id, j.team_id, j.lane, f.route, f.endpoint, j.key_id, j.priority, f.tail_pos, f.max_in,
                f.max_out, j.max_attempts, j.start_at, j.deadline_at, $8
         from job j,
              unnest($2::bigint[], $3::text[], $4::smallint[], $5::integer[], $6::integer[], $7::integer[])
                  as f(flow_id, route, endpoint, tail_pos, max_in, max_out)
         where j.job_id = $1",
        upload.job_id,
        &ids,
        &routes,
        &endpoints,
        &tails,
        &max_in,
        &max_out as &[Option<i32>],
        if begin == Begin::WaitingOnJob { "held" } else { "ready" },
    )
    .execute(&mut *conn)
    .await?;
    // From here on the job itself counts against its team's quotas.
    query!("delete from upload_hold where job_id = $1", upload.job_id).execute(&mut *conn).await?;
    idempotency::seal(&mut *conn, upload.job_id, fingerprint).await?;
    query!("select pg_notify($1, $2)", WORK_CHANNEL, job.lane).execute(&mut *conn).await?;
    // Last: claims pass the share over while this transaction holds it.
    share::wake(conn, &[job.lane], &[job.team_id]).await?;
    Ok(true)
}

/// Requests of a job that made it into the queue; `None` for one that did not.
pub async fn accepted(conn: &mut PgConnection, job_id: i64) -> Result<Option<i64>> {
    query_scalar!("select accepted from job where job_id = $1 and state <> 'uploading'", job_id)
        .fetch_optional(conn)
        .await
}

#[cfg(test)]
mod tests;
