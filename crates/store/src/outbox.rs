//! Webhooks to be delivered, each at least once. A replica takes a row for the length of a lease, so that only one
//! delivers it at a time.

use std::time::Duration;

use sqlx::{PgConnection, query, query_as};
use uuid::Uuid;

use crate::Result;

#[derive(Debug, Clone, Copy)]
pub struct NewWebhook<'a> {
    /// The same in each delivery: by it a receiver tells a repetition.
    pub webhook_id: Uuid,
    pub job_id: i64,
    pub team_id: i64,
    pub url: &'a str,
    pub payload: &'a str,
}

/// A webhook to be delivered now.
#[derive(Debug, Clone)]
pub struct Due {
    pub webhook_id: Uuid,
    pub job_id: i64,
    pub team_id: i64,
    /// Sealed, but where the version before wrote it.
    pub url: String,
    pub payload: String,
    /// This try included. A report with a smaller number comes from a replica that has lost its lease.
    pub tries: i32,
}

/// In the transaction that ends the job.
pub async fn insert(conn: &mut PgConnection, webhook: NewWebhook<'_>) -> Result<()> {
    query!(
        "insert into webhook_outbox (webhook_id, job_id, team_id, url, payload) values ($1, $2, $3, $4, $5)",
        webhook.webhook_id,
        webhook.job_id,
        webhook.team_id,
        webhook.url,
        webhook.payload,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes the webhooks that have waited longest, at most `limit`. No other replica takes them before `lease` is over.
pub async fn take(conn: &mut PgConnection, limit: i64, lease: Duration) -> Result<Vec<Due>> {
    query_as!(
        Due,
        "update webhook_outbox w set tries = w.tries + 1, next_try_at = now() + make_interval(secs => $2)
         from (select webhook_id from webhook_outbox
               where next_try_at <= now() and delivered_at is null and given_up_at is null
               order by next_try_at limit $1
               for update skip locked) due
         where w.webhook_id = due.webhook_id
         returning w.webhook_id, w.job_id, w.team_id, w.url, w.payload, w.tries",
        limit,
        lease.as_secs_f64(),
    )
    .fetch_all(conn)
    .await
}

/// The receiver said yes.
pub async fn delivered(conn: &mut PgConnection, due: &Due) -> Result<()> {
    query!("update webhook_outbox set delivered_at = now(), last_error = null where webhook_id = $1", due.webhook_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// The try failed; the next is `after` from now, or never when that is `None`.
pub async fn failed(conn: &mut PgConnection, due: &Due, error: &str, after: Option<Duration>) -> Result<()> {
    query!(
        "update webhook_outbox
         set last_error = $3,
             next_try_at = coalesce(now() + make_interval(secs => $4), next_try_at),
             given_up_at = case when $4::double precision is null then now() end
         where webhook_id = $1 and tries = $2 and delivered_at is null",
        due.webhook_id,
        due.tries,
        error,
        after.map(|after| after.as_secs_f64()),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets webhooks that were delivered or given up longer ago than `keep`; gives their number.
pub async fn prune(conn: &mut PgConnection, keep: Duration) -> Result<u64> {
    let done = query!(
        "delete from webhook_outbox where coalesce(delivered_at, given_up_at) < now() - make_interval(secs => $1)",
        keep.as_secs_f64(),
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::PgPool;

    const LEASE: Duration = Duration::from_secs(60);

    async fn waiting(conn: &mut PgConnection, count: usize) {
        for _ in 0..count {
            let webhook_id = Uuid::now_v7();
            insert(conn, NewWebhook { webhook_id, job_id: 1, team_id: 1, url: "https://a.example/", payload: "{}" })
                .await
                .unwrap();
        }
    }

    #[sqlx::test(migrations = "../../migrations")]
    async fn two_replicas_never_take_the_same_webhook(pool: PgPool) {
        let (mut a, mut b) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
        waiting(&mut a, 5).await;
        let (first, second) = tokio::join!(take(&mut a, 3, LEASE), take(&mut b, 3, LEASE));
        let mut ids: Vec<Uuid> = first.unwrap().iter().chain(&second.unwrap()).map(|due| due.webhook_id).collect();
        ids.extend(take(&mut a, 5, LEASE).await.unwrap().iter().map(|due| due.webhook_id));
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 5);
    }

    #[sqlx::test(migrations = "../../migrations")]
    async fn a_lease_that_ended_is_taken_again_and_the_late_report_is_void(pool: PgPool) {
        let mut conn = pool.acquire().await.unwrap();
        waiting(&mut conn, 1).await;
        let late = take(&mut conn, 1, Duration::ZERO).await.unwrap().remove(0);
        let again = take(&mut conn, 1, LEASE).await.unwrap().remove(0);
        assert_eq!((late.tries, again.tries), (1, 2));
        failed(&mut conn, &late, "too late to matter", None).await.unwrap();
        failed(&mut conn, &again, "503", Some(Duration::ZERO)).await.unwrap();
        let last = take(&mut conn, 1, LEASE).await.unwrap().remove(0);
        assert_eq!(last.tries, 3);
        delivered(&mut conn, &last).await.unwrap();
        assert!(take(&mut conn, 1, LEASE).await.unwrap().is_empty());
        assert_eq!(prune(&mut conn, Duration::from_secs(3600)).await.unwrap(), 0);
        assert_eq!(prune(&mut conn, Duration::ZERO).await.unwrap(), 1);
    }

    #[sqlx::test(migrations = "../../migrations")]
    async fn what_was_given_up_is_not_tried_again(pool: PgPool) {
        let mut conn = pool.acquire().await.unwrap();
        waiting(&mut conn, 1).await;
        let due = take(&mut conn, 1, LEASE).await.unwrap().remove(0);
        failed(&mut conn, &due, "410", None).await.unwrap();
        assert!(take(&mut conn, 1, LEASE).await.unwrap().is_empty());
    }
}
