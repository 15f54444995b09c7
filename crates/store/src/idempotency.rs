//! Idempotency keys: one submission each, for a day. The fingerprint tells a repetition from a mistake.

use sqlx::{PgConnection, query, query_scalar};

use crate::Result;

/// What a key stands for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Its first upload is still coming in.
    InFlight,
    /// SHA-256 of what was submitted under it.
    Done { job_id: i64, fingerprint: Vec<u8> },
}

/// The submission that `key` stands for; `None` when it is free or was used more than 24 hours ago.
pub async fn find(conn: &mut PgConnection, team_id: i64, key: &str) -> Result<Option<Known>> {
    let found = query!(
        "select job_id, fingerprint from idempotency
         where team_id = $1 and key = $2
           and (fingerprint is null or created_at > now() - interval '24 hours')",
        team_id,
        key,
    )
    .fetch_optional(conn)
    .await?;
    Ok(found.map(|row| match row.fingerprint {
        None => Known::InFlight,
        Some(fingerprint) => Known::Done { job_id: row.job_id, fingerprint },
    }))
}

/// Takes the key for a new job; false when somebody has it. Waits for a rival that is taking it at this moment.
pub async fn reserve(conn: &mut PgConnection, team_id: i64, key: &str, job_id: i64) -> Result<bool> {
    let taken = query_scalar!(
        "insert into idempotency (team_id, key, job_id) values ($1, $2, $3)
         on conflict (team_id, key) do update
            set job_id = excluded.job_id, fingerprint = null, created_at = now()
            where idempotency.fingerprint is not null
              and idempotency.created_at <= now() - interval '24 hours'
         returning job_id",
        team_id,
        key,
        job_id,
    )
    .fetch_optional(conn)
    .await?;
    Ok(taken.is_some())
}

/// Records what was submitted. In the transaction that makes the job runnable; a job without a key is passed over.
pub async fn seal(conn: &mut PgConnection, job_id: i64, fingerprint: &[u8]) -> Result<()> {
    query!("update idempotency set fingerprint = $2 where job_id = $1", job_id, fingerprint).execute(conn).await?;
    Ok(())
}

/// Forgets the keys that are free again anyway; gives their number.
pub async fn prune(conn: &mut PgConnection) -> Result<u64> {
    let done =
        query!("delete from idempotency where fingerprint is not null and created_at <= now() - interval '24 hours'")
            .execute(conn)
            .await?;
    Ok(done.rows_affected())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::PgPool;

    #[sqlx::test(migrations = "../../migrations")]
    async fn a_key_is_one_submission(pool: PgPool) {
        let mut conn = pool.acquire().await.unwrap();
        assert_eq!(find(&mut conn, 1, "k").await.unwrap(), None);
        assert!(reserve(&mut conn, 1, "k", 10).await.unwrap());
        assert!(!reserve(&mut conn, 1, "k", 11).await.unwrap());
        assert!(reserve(&mut conn, 2, "k", 12).await.unwrap(), "another team's key is another key");
        assert_eq!(find(&mut conn, 1, "k").await.unwrap(), Some(Known::InFlight));
        seal(&mut conn, 10, b"print").await.unwrap();
        let done = Known::Done { job_id: 10, fingerprint: b"print".to_vec() };
        assert_eq!(find(&mut conn, 1, "k").await.unwrap(), Some(done));
    }

    #[sqlx::test(migrations = "../../migrations")]
    async fn a_key_is_free_again_after_a_day(pool: PgPool) {
        let mut conn = pool.acquire().await.unwrap();
        for (key, job_id) in [("sealed", 10), ("pruned", 11), ("open", 12)] {
            assert!(reserve(&mut conn, 1, key, job_id).await.unwrap());
        }
        seal(&mut conn, 10, b"print").await.unwrap();
        seal(&mut conn, 11, b"print").await.unwrap();
        sqlx::query("update idempotency set created_at = now() - interval '25 hours'")
            .execute(&mut *conn)
            .await
            .unwrap();

        assert_eq!(find(&mut conn, 1, "sealed").await.unwrap(), None);
        assert!(reserve(&mut conn, 1, "sealed", 13).await.unwrap());
        assert_eq!(find(&mut conn, 1, "sealed").await.unwrap(), Some(Known::InFlight));
        assert!(
            !reserve(&mut conn, 1, "open", 14).await.unwrap(),
            "an upload under way keeps its key however long it takes"
        );
        assert_eq!(prune(&mut conn).await.unwrap(), 1);
    }
}
