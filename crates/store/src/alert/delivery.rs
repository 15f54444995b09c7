//! An alert's way to its receivers. A delivery is taken for a lease, by one replica at a time, and so made at least once.

use std::time::Duration;

use sqlx::{PgConnection, query, query_as};
use uuid::Uuid;

use crate::Result;

#[derive(Debug, Clone, Copy)]
pub struct NewDelivery<'a> {
    pub delivery_id: Uuid,
    pub alert_id: Uuid,
    pub receiver: &'a str,
    pub payload: &'a str,
}

/// A delivery to be made now.
#[derive(Debug, Clone)]
pub struct Due {
    pub delivery_id: Uuid,
    pub payload: String,
    /// This try included. A report with a smaller number comes from a replica that has lost its lease.
    pub tries: i32,
}

/// In the transaction that inserts the alert.
pub async fn send(conn: &mut PgConnection, new: NewDelivery<'_>) -> Result<()> {
    query!(
        "insert into alert_delivery (delivery_id, alert_id, receiver, payload) values ($1, $2, $3, $4)",
        new.delivery_id,
        new.alert_id,
        new.receiver,
        new.payload,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes what waits longest for this receiver, at most `limit`; nobody else takes it before `lease` is over.
pub async fn take(conn: &mut PgConnection, receiver: &str, limit: i64, lease: Duration) -> Result<Vec<Due>> {
    query_as!(
        Due,
        "update alert_delivery d set tries = d.tries + 1, next_try_at = now() + make_interval(secs => $3)
         from (select delivery_id from alert_delivery
               where receiver = $1 and next_try_at <= now() and delivered_at is null and given_up_at is null
               order by next_try_at limit $2
               for update skip locked) due
         where d.delivery_id = due.delivery_id
         returning d.delivery_id, d.payload, d.tries",
        receiver,
        limit,
        lease.as_secs_f64(),
    )
    .fetch_all(conn)
    .await
}

/// The receiver said yes.
pub async fn delivered(conn: &mut PgConnection, due: &Due) -> Result<()> {
    query!("update alert_delivery set delivered_at = now(), last_error = null where delivery_id = $1", due.delivery_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// The try failed; the next is `after` from now, or never when that is `None`.
pub async fn failed(conn: &mut PgConnection, due: &Due, error: &str, after: Option<Duration>) -> Result<()> {
    query!(
        "update alert_delivery
         set last_error = $3,
             next_try_at = coalesce(now() + make_interval(secs => $4), next_try_at),
             given_up_at = case when $4::double precision is null then now() end
         where delivery_id = $1 and tries = $2 and delivered_at is null",
        due.delivery_id,
        due.tries,
        error,
        after.map(|after| after.as_secs_f64()),
    )
    .execute(conn)
    .await?;
    Ok(())
}
