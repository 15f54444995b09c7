//! What operators say of deployments by hand.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, query, query_as, query_scalar};

use crate::Result;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    pub deployment: String,
    /// `None`: it was released.
    pub out_until: Option<DateTime<Utc>>,
    pub ordered_at: DateTime<Utc>,
}

/// Takes it out of service for this long; returns until when.
pub async fn take_out(conn: &mut PgConnection, deployment: &str, out_for: Duration) -> Result<DateTime<Utc>> {
    query_scalar!(
        r#"insert into deployment_order as o (deployment, out_until) values ($1, clock_timestamp() + make_interval(secs => $2))
           on conflict (deployment) do update set out_until = excluded.out_until, ordered_at = excluded.ordered_at
           returning o.out_until as "out_until!""#,
        deployment,
        out_for.as_secs_f64(),
    )
    .fetch_one(conn)
    .await
}

/// Puts it back in, and has all replicas forget how it fared.
pub async fn release(conn: &mut PgConnection, deployment: &str) -> Result<()> {
    query!(
        "insert into deployment_order as o (deployment, out_until) values ($1, null)
         on conflict (deployment) do update set out_until = null, ordered_at = excluded.ordered_at",
        deployment,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// All orders; there are no more of them than deployments were named.
pub async fn all(conn: &mut PgConnection) -> Result<Vec<Order>> {
    query_as!(Order, "select deployment, out_until, ordered_at from deployment_order order by deployment")
        .fetch_all(conn)
        .await
}
