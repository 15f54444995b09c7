//! Abandoned uploads: marked at once, removed in small steps.

use sqlx::{Connection, PgConnection, query, query_scalar};

use super::Upload;
use crate::Result;

/// The `job.upload_worker` of an abandoned upload. Ids of workers are far above it.
const NOBODY: i64 = 0;
/// Items deleted in one statement: about a tenth of a second.
pub(super) const SWEEP_ITEMS: i32 = 10_000;

/// Gives the upload up and frees its idempotency key; its items go with [`sweep`]. False when there is nothing to give up: it
/// was finished, or given up before. Waits for a transaction of the upload that is just committing.
pub async fn abandon(conn: &mut PgConnection, upload: Upload) -> Result<bool> {
    let marked = query_scalar!(
        "with marked as (
             update job set upload_worker = $3
             where job_id = $1 and state = 'uploading' and upload_worker = $2
             returning job_id
         ), freed as (
             delete from idempotency i using marked m where i.job_id = m.job_id
         )
         select job_id from marked",
        upload.job_id,
        upload.worker_id,
        NOBODY,
    )
    .fetch_optional(conn)
    .await?;
    Ok(marked.is_some())
}

/// Gives up the uploads of a worker that died and that nobody holds; gives their number. For the transaction that returns what it held.
pub async fn abandon_uploads_of(conn: &mut PgConnection, worker_id: i64) -> Result<u64> {
    let marked = query_scalar!(
        r#"with marked as (
             update job set upload_worker = $2
             where job_id in (
                 select job_id from job where finished_at is null and state = 'uploading' and upload_worker = $1
                 for update skip locked)
             returning job_id
         ), freed as (
             delete from idempotency i using marked m where i.job_id = m.job_id
         )
         select count(*) as "count!" from marked"#,
        worker_id,
        NOBODY,
    )
    .fetch_one(conn)
    .await?;
    Ok(marked.unsigned_abs())
}

/// Removes what is left of the uploads that were given up; gives their number. Outside any transaction: it deletes in
/// statements of bounded length. Cut short, the next sweep goes on with it; two at once do no harm.
pub async fn sweep(conn: &mut PgConnection) -> Result<u64> {
    debug_assert!(!conn.is_in_transaction());
    let jobs = query!(
        "select job_id, flow_ids from job where finished_at is null and state = 'uploading' and upload_worker = $1",
        NOBODY,
    )
    .fetch_all(&mut *conn)
    .await?;
    for job in &jobs {
        for flow_id in &job.flow_ids {
            remove_items(&mut *conn, *flow_id).await?;
        }
        // With its items gone nothing would find it again, so it goes last.
        query!("delete from job where job_id = $1 and state = 'uploading' and upload_worker = $2", job.job_id, NOBODY)
            .execute(&mut *conn)
            .await?;
    }
    Ok(jobs.len() as u64)
}

/// Deletes a flow's items in statements of bounded length.
async fn remove_items(conn: &mut PgConnection, flow_id: i64) -> Result<()> {
    let last = query_scalar!("select max(pos) from item where flow_id = $1", flow_id).fetch_one(&mut *conn).await?;
    let mut from = 0;
    while last.is_some_and(|last| from <= last) {
        let below = from.saturating_add(SWEEP_ITEMS);
        query!("delete from item where flow_id = $1 and pos >= $2 and pos < $3", flow_id, from, below)
            .execute(&mut *conn)
            .await?;
        from = below;
    }
    Ok(())
}
