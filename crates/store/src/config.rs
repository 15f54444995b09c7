//! The operator's catalog, versioned: the highest version is active and all replicas follow it.

use std::time::Duration;

use domain::{Catalog, catalog::TeamRule};
use sqlx::{PgConnection, types::Json};

use crate::{Result, team};

#[derive(Debug, Clone, PartialEq)]
pub struct ActiveConfig {
    pub version: i64,
    pub catalog: Catalog,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It is what was active already.
    Unchanged(i64),
    New(i64),
}

impl Applied {
    pub fn version(self) -> i64 {
        match self {
            Self::Unchanged(version) | Self::New(version) => version,
        }
    }
}

/// Makes `catalog` the active version unless it already is, and its teams the teams that the file manages. Must be inside a
/// transaction: replicas that start together wait for one another until it ends.
pub async fn apply(conn: &mut PgConnection, catalog: &Catalog, applied_by: &str) -> Result<Applied> {
    lock(conn).await?;
    let document = Json(catalog);
    // jsonb's text has one form for equal documents, whatever the order in the file was.
    let hash = sqlx::query_scalar!(
        r#"select encode(sha256(convert_to(($1::jsonb)::text, 'UTF8')), 'hex') as "hash!""#,
        document as _,
    )
    .fetch_one(&mut *conn)
    .await?;
    let active = sqlx::query!("select version, hash from config_version order by version desc limit 1")
        .fetch_optional(&mut *conn)
        .await?;
    if let Some(active) = active
        && active.hash == hash
    {
        return Ok(Applied::Unchanged(active.version));
    }
    let version = sqlx::query_scalar!(
        "insert into config_version (hash, document, applied_by) values ($1, $2, $3) returning version",
        hash,
        document as _,
        applied_by,
    )
    .fetch_one(&mut *conn)
    .await?;
    let (names, weights) = weights(catalog);
    team::follow_file(conn, &names, &weights).await?;
    Ok(Applied::New(version))
}

/// Locks out other changes of the configuration until this transaction ends. Idempotent.
pub async fn lock(conn: &mut PgConnection) -> Result<()> {
    sqlx::query!("select pg_advisory_xact_lock(hashtext('tollway_config'))").fetch_one(conn).await?;
    Ok(())
}

/// The active version; `None` when none was ever applied. An error when a newer Tollway wrote what this one cannot read.
pub async fn load_active(conn: &mut PgConnection) -> Result<Option<ActiveConfig>> {
    newer_than(conn, 0).await
}

/// The active version if it is newer than `version`: what a replica asks again and again.
pub async fn newer_than(conn: &mut PgConnection, version: i64) -> Result<Option<ActiveConfig>> {
    let row = sqlx::query!(
        r#"select version, document as "document: Json<Catalog>" from config_version
           where version > $1 order by version desc limit 1"#,
        version,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| ActiveConfig { version: row.version, catalog: row.document.0 }))
}

/// Whether the active version has been so for longer than this.
pub async fn is_older_than(conn: &mut PgConnection, age: Duration) -> Result<bool> {
    let is_older = sqlx::query_scalar!(
        r#"select applied_at < now() - make_interval(secs => $1) as "is_older!"
           from config_version order by version desc limit 1"#,
        age.as_secs_f64(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(is_older.unwrap_or(false))
}

fn weights(catalog: &Catalog) -> (Vec<String>, Vec<i32>) {
    let weight = |rule: &TeamRule| i32::try_from(rule.weight).unwrap_or(i32::MAX);
    catalog.teams.iter().map(|(name, rule)| (name.clone(), weight(rule))).unzip()
}

#[cfg(test)]
mod tests {
    use sqlx::PgPool;

    use super::*;

    fn catalog(teams: &[&str]) -> Catalog {
        Catalog {
            lanes: Catalog::default_lanes(),
            teams: teams.iter().map(|name| ((*name).to_owned(), TeamRule::default())).collect(),
            ..Catalog::default()
        }
    }

    async fn apply_one(pool: &PgPool, catalog: &Catalog) -> Result<Applied> {
        let mut tx = pool.begin().await?;
        let applied = apply(&mut tx, catalog, "test").await?;
        tx.commit().await?;
        Ok(applied)
    }

    #[sqlx::test(migrations = "../../migrations")]
    async fn the_same_document_is_no_new_version(pool: PgPool) -> Result<()> {
        let mut conn = pool.acquire().await?;
        assert_eq!(load_active(&mut conn).await?, None);
        let first = apply_one(&pool, &catalog(&["a"])).await?;
        assert_eq!(apply_one(&pool, &catalog(&["a"])).await?, Applied::Unchanged(first.version()));
        let second = apply_one(&pool, &catalog(&["a", "b"])).await?;
        assert!(second.version() > first.version());
        let active = load_active(&mut conn).await?.expect("two were applied");
        assert_eq!(active, ActiveConfig { version: second.version(), catalog: catalog(&["a", "b"]) });
        assert_eq!(newer_than(&mut conn, second.version()).await?, None);
        // Back to the first document: a new version, since the highest is the active one.
        assert!(apply_one(&pool, &catalog(&["a"])).await?.version() > second.version());
        assert_eq!(team::disabled_ids(&mut conn).await?.len(), 1);
        Ok(())
    }

    #[sqlx::test(migrations = "../../migrations")]
    async fn replicas_that_start_together_make_one_version(pool: PgPool) -> Result<()> {
        let document = catalog(&["a"]);
        let all = futures::future::join_all((0..5).map(|_| apply_one(&pool, &document))).await;
        let made = all.iter().filter(|applied| matches!(applied, Ok(Applied::New(_)))).count();
        assert_eq!((made, all.iter().filter(|applied| applied.is_ok()).count()), (1, 5));
        Ok(())
    }
}
