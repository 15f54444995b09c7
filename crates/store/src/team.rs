//! Teams: owners of keys, caps and spend. Rows that follow tollway.toml are marked and refuse edits by the API.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::Result;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamRow {
    pub team_id: i64,
    pub name: String,
    /// Share of a lane beside other teams, 1 to 1000.
    pub weight: i32,
    /// `api` or `file`.
    pub managed_by: String,
    pub created_at: DateTime<Utc>,
    /// Its keys are refused since then.
    pub disabled_at: Option<DateTime<Utc>>,
}

impl TeamRow {
    pub fn is_file_managed(&self) -> bool {
        self.managed_by == "file"
    }
}

/// Creates a team that the API manages. `None` when the name is taken, also by a disabled team: its spend stays its own.
pub async fn create(conn: &mut PgConnection, name: &str, weight: i32) -> Result<Option<TeamRow>> {
    sqlx::query_as!(
        TeamRow,
        "insert into team (name, weight) values ($1, $2) on conflict (name) do nothing
         returning team_id, name, weight, managed_by, created_at, disabled_at",
        name,
        weight,
    )
    .fetch_optional(conn)
    .await
}

/// All teams by name, disabled ones included.
pub async fn list(conn: &mut PgConnection) -> Result<Vec<TeamRow>> {
    sqlx::query_as!(
        TeamRow,
        "select team_id, name, weight, managed_by, created_at, disabled_at from team order by name"
    )
    .fetch_all(conn)
    .await
}

pub async fn get(conn: &mut PgConnection, team_id: i64) -> Result<Option<TeamRow>> {
    sqlx::query_as!(
        TeamRow,
        "select team_id, name, weight, managed_by, created_at, disabled_at from team where team_id = $1",
        team_id,
    )
    .fetch_optional(conn)
    .await
}

pub async fn get_by_name(conn: &mut PgConnection, name: &str) -> Result<Option<TeamRow>> {
    sqlx::query_as!(
        TeamRow,
        "select team_id, name, weight, managed_by, created_at, disabled_at from team where name = $1",
        name,
    )
    .fetch_optional(conn)
    .await
}

/// Disables a team that the API manages; its keys are refused from then on. `None`: there is none of that name, or the
/// file manages it. Again on a disabled team changes nothing.
pub async fn disable(conn: &mut PgConnection, name: &str) -> Result<Option<TeamRow>> {
    sqlx::query_as!(
        TeamRow,
        "update team set disabled_at = coalesce(disabled_at, now()) where name = $1 and managed_by = 'api'
         returning team_id, name, weight, managed_by, created_at, disabled_at",
        name,
    )
    .fetch_optional(conn)
    .await
}

/// The ids of all disabled teams.
pub async fn disabled_ids(conn: &mut PgConnection) -> Result<Vec<i64>> {
    sqlx::query_scalar!("select team_id from team where disabled_at is not null").fetch_all(conn).await
}

/// Makes the teams that the file manages exactly these, `names[i]` with `weights[i]`: new ones appear, those no longer named
/// are disabled, one that the API made becomes the file's. Also carries weights into `share`. Inside a transaction.
pub async fn follow_file(conn: &mut PgConnection, names: &[String], weights: &[i32]) -> Result<()> {
    sqlx::query!(
        "insert into team as t (name, weight, managed_by)
         select name, weight, 'file' from unnest($1::text[], $2::integer[]) as f (name, weight)
         on conflict (name) do update set weight = excluded.weight, managed_by = 'file', disabled_at = null
         where (t.weight, t.managed_by, t.disabled_at) is distinct from (excluded.weight, 'file', null)",
        names,
        weights,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "update team set disabled_at = now()
         where managed_by = 'file' and disabled_at is null and name <> all ($1::text[])",
        names,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "update share s set weight = t.weight from team t where t.team_id = s.team_id and s.weight <> t.weight"
    )
    .execute(conn)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use sqlx::PgPool;

    use super::*;

    #[sqlx::test(migrations = "../../migrations")]
    async fn a_name_is_given_once(pool: PgPool) -> Result<()> {
        let mut conn = pool.acquire().await?;
        let made = create(&mut conn, "search", 3).await?.expect("the name is free");
        assert_eq!((made.weight, made.managed_by.as_str()), (3, "api"));
        assert_eq!(create(&mut conn, "search", 1).await?, None);
        assert_eq!(get(&mut conn, made.team_id).await?, get_by_name(&mut conn, "search").await?);
        Ok(())
    }

    #[sqlx::test(migrations = "../../migrations")]
    async fn the_file_takes_over_adds_disables_and_weighs(pool: PgPool) -> Result<()> {
        let mut conn = pool.acquire().await?;
        let search = create(&mut conn, "search", 1).await?.expect("the name is free");
        create(&mut conn, "own", 1).await?.expect("the name is free");
        sqlx::query!("insert into share (lane, team_id) values ('bulk', $1)", search.team_id)
            .execute(&mut *conn)
            .await?;

        follow_file(&mut conn, &["search".into(), "chat".into()], &[5, 2]).await?;
        let told = |teams: Vec<TeamRow>| -> Vec<(String, i32, String, bool)> {
            teams.into_iter().map(|t| (t.name, t.weight, t.managed_by, t.disabled_at.is_some())).collect()
        };
        let row = |name: &str, weight, by: &str, off| (name.to_owned(), weight, by.to_owned(), off);
        assert_eq!(
            told(list(&mut conn).await?),
            [row("chat", 2, "file", false), row("own", 1, "api", false), row("search", 5, "file", false)]
        );
        let weight = sqlx::query_scalar!("select weight from share").fetch_one(&mut *conn).await?;
        assert_eq!(weight, 5);
        assert_eq!(disable(&mut conn, "search").await?, None, "the file manages it");

        follow_file(&mut conn, &["search".into()], &[5]).await?;
        assert_eq!(
            told(list(&mut conn).await?),
            [row("chat", 2, "file", true), row("own", 1, "api", false), row("search", 5, "file", false)]
        );
        assert_eq!(disabled_ids(&mut conn).await?.len(), 1);
        follow_file(&mut conn, &["search".into(), "chat".into()], &[5, 2]).await?;
        assert_eq!(disabled_ids(&mut conn).await?.len(), 0, "named again, it is back");
        Ok(())
    }
}
