//! What teams sign their webhooks with. At most two of a team are active: the newest, and for a while the one that it replaced.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, query, query_as};
use uuid::Uuid;

use crate::Result;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRow {
    pub secret_id: Uuid,
    pub sealed: String,
    pub created_at: DateTime<Utc>,
    pub created_by: String,
    /// Until then it signs beside the newest; `None`: it is the newest.
    pub expires_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Copy)]
pub struct NewSecret<'a> {
    pub secret_id: Uuid,
    pub team_id: i64,
    pub sealed: &'a str,
    pub by: &'a str,
    /// How long the one before signs beside it.
    pub overlap: Duration,
}

/// Those that sign now, the newest first.
pub async fn active(conn: &mut PgConnection, team_id: i64) -> Result<Vec<SecretRow>> {
    query_as!(
        SecretRow,
        "select secret_id, sealed, created_at, created_by, expires_at from team_webhook_secret
         where team_id = $1 and coalesce(expires_at, 'infinity') > now()
         order by expires_at desc nulls first limit 2",
        team_id,
    )
    .fetch_all(conn)
    .await
}

/// Locks out other changes of the team's secrets until this transaction ends.
pub async fn lock(conn: &mut PgConnection, team_id: i64) -> Result<()> {
    query!("select team_id from team where team_id = $1 for no key update", team_id).fetch_one(conn).await?;
    Ok(())
}

/// Makes it the team's newest secret. The previous one stays valid for the overlap; older ones end now. Call after
/// [`lock`].
pub async fn rotate(conn: &mut PgConnection, new: NewSecret<'_>) -> Result<()> {
    query!("delete from team_webhook_secret where team_id = $1 and expires_at is not null", new.team_id)
        .execute(&mut *conn)
        .await?;
    query!(
        "update team_webhook_secret set expires_at = now() + make_interval(secs => $2) where team_id = $1",
        new.team_id,
        new.overlap.as_secs_f64(),
    )
    .execute(&mut *conn)
    .await?;
    query!(
        "insert into team_webhook_secret (secret_id, team_id, sealed, created_by) values ($1, $2, $3, $4)",
        new.secret_id,
        new.team_id,
        new.sealed,
        new.by,
    )
    .execute(conn)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::PgPool;

    #[sqlx::test(migrations = "../../migrations")]
    async fn two_secrets_of_a_team_are_active_and_no_third(pool: PgPool) {
        let mut conn = pool.acquire().await.unwrap();
        let team_id: i64 = sqlx::query_scalar("insert into team (name) values ('a') returning team_id")
            .fetch_one(&mut *conn)
            .await
            .unwrap();
        let mut turn = async |sealed: &'static str, overlap: u64| {
            let overlap = Duration::from_secs(overlap);
            let new = NewSecret { secret_id: Uuid::now_v7(), team_id, sealed, by: "k", overlap };
            rotate(&mut conn, new).await.unwrap();
            let rows = active(&mut conn, team_id).await.unwrap();
            rows.into_iter().map(|row| row.sealed).collect::<Vec<_>>()
        };
        assert_eq!(turn("one", 60).await, ["one"]);
        assert_eq!(turn("two", 60).await, ["two", "one"]);
        assert_eq!(turn("three", 60).await, ["three", "two"]);
        assert_eq!(turn("four", 0).await, ["four"], "nothing of the one before is wanted any more");
    }
}
