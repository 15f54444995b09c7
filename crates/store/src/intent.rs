//! Intents: what synchronous calls are about to cost, durable before their first byte reaches the caller.

use sqlx::{PgConnection, query, query_as};
use uuid::Uuid;

use crate::Result;

/// `pessimist` is the ledger row, as JSON, that stands if nobody learns how the call ended.
pub async fn insert(
    conn: &mut PgConnection,
    worker_id: i64,
    attempt_ids: &[Uuid],
    pessimists: &[String],
) -> Result<()> {
    query!(
        "insert into intent (attempt_id, worker_id, pessimist)
         select i.attempt_id, $1, i.pessimist::jsonb from unnest($2::uuid[], $3::text[]) as i(attempt_id, pessimist)
         on conflict (attempt_id) do nothing",
        worker_id,
        attempt_ids,
        pessimists,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends intents; gives those that still stood. The caller books their ledger rows in the same transaction.
pub async fn end(conn: &mut PgConnection, attempt_ids: &[Uuid]) -> Result<Vec<Uuid>> {
    Ok(query!("delete from intent where attempt_id = any($1) returning attempt_id", attempt_ids)
        .fetch_all(conn)
        .await?
        .into_iter()
        .map(|row| row.attempt_id)
        .collect())
}

#[derive(Debug, Clone)]
pub struct Orphan {
    pub attempt_id: Uuid,
    pub pessimist: serde_json::Value,
}

/// Takes up to `most` intents of a dead worker that nobody holds; the caller books them as unknown in the same transaction.
pub async fn take_orphans(conn: &mut PgConnection, worker_id: i64, most: i64) -> Result<Vec<Orphan>> {
    query_as!(
        Orphan,
        "delete from intent i using (select attempt_id from intent where worker_id = $1 limit $2 for update skip locked) o
         where i.attempt_id = o.attempt_id
         returning i.attempt_id, i.pessimist",
        worker_id,
        most,
    )
    .fetch_all(conn)
    .await
}
