//! Limits and grants. A replica takes a grant here and spends it locally, so that a call needs no round trip and the sum of
//! what is granted never exceeds the limit.

mod allot;
mod grant;
mod word;

use sqlx::{PgConnection, query, query_as};

pub use grant::{Answer, Want, exchange, tell};
pub use word::{CHANNEL, Word};

use crate::Result;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitRow {
    pub limit_id: i64,
    pub scope: String,
    pub kind: String,
    pub cap: i64,
    pub managed_by: String,
    /// Raised whenever the limit is set again.
    pub generation: i64,
}

/// All limits in force.
pub async fn active(conn: &mut PgConnection) -> Result<Vec<LimitRow>> {
    query_as!(
        LimitRow,
        r#"select limit_id, scope, kind, least(cap, 9223372036854775807)::bigint as "cap!", managed_by, generation
           from limit_rule where disabled_at is null"#
    )
    .fetch_all(conn)
    .await
}

/// A limit as the operator's file, or a key's own caps, declare it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    pub scope: String,
    pub kind: &'static str,
    pub cap: i64,
}

/// Makes the rules managed by the file those that are declared; what is gone is disabled, never deleted. In the transaction
/// that applies the configuration.
pub async fn apply(conn: &mut PgConnection, declared: &[Declared]) -> Result<()> {
    let scopes: Vec<String> = declared.iter().map(|d| d.scope.clone()).collect();
    let kinds: Vec<String> = declared.iter().map(|d| d.kind.to_owned()).collect();
    let caps: Vec<i64> = declared.iter().map(|d| d.cap).collect();
    query!(
        "insert into limit_rule (scope, kind, cap, managed_by)
         select d.scope, d.kind, d.cap, 'file' from unnest($1::text[], $2::text[], $3::bigint[]) as d(scope, kind, cap)
         order by d.scope, d.kind
         on conflict (scope, kind) do update set cap = excluded.cap, managed_by = 'file', disabled_at = null,
             generation = limit_rule.generation
                 + (limit_rule.cap <> excluded.cap or limit_rule.disabled_at is not null)::int,
             level_at = case when limit_rule.cap <> excluded.cap or limit_rule.disabled_at is not null then '-infinity'
                             else limit_rule.level_at end
         where limit_rule.cap <> excluded.cap or limit_rule.disabled_at is not null or limit_rule.managed_by <> 'file'",
        &scopes,
        &kinds,
        &caps,
    )
    .execute(&mut *conn)
    .await?;
    query!(
        "update limit_rule set disabled_at = now()
         where managed_by = 'file' and disabled_at is null
           and (scope, kind) not in (select * from unnest($1::text[], $2::text[]))",
        &scopes,
        &kinds,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes or changes a limit that the API manages. One in force that the file manages stays as it is: the caller has looked. A limit
/// that is changed, or made again after it was lifted, starts afresh: its bucket is full and nothing is owed to it.
pub async fn set(conn: &mut PgConnection, scope: &str, kind: &str, cap: i64) -> Result<()> {
    query!(
        "insert into limit_rule as r (scope, kind, cap) values ($1, $2, $3::bigint)
         on conflict (scope, kind) do update set cap = excluded.cap, managed_by = 'api', disabled_at = null,
             generation = r.generation + (r.cap <> excluded.cap or r.disabled_at is not null)::int,
             level_at = case when r.cap <> excluded.cap or r.disabled_at is not null then '-infinity' else r.level_at end
         where r.managed_by = 'api' or r.disabled_at is not null",
        scope,
        kind,
        cap,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lifts a limit that the API manages. It is disabled, never deleted: grants refer to it.
pub async fn lift(conn: &mut PgConnection, scope: &str, kind: &str) -> Result<()> {
    query!(
        "update limit_rule set disabled_at = now()
         where scope = $1 and kind = $2 and managed_by = 'api' and disabled_at is null",
        scope,
        kind,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lifts the limits of a deployment's parts that the API manages, but for those of these scopes.
pub async fn lift_partitions(conn: &mut PgConnection, scope: &str, kind: &str, but_for: &[String]) -> Result<()> {
    query!(
        "update limit_rule set disabled_at = now()
         where (scope = $1::text || ':shared' or starts_with(scope, $1 || ':reserve:') or starts_with(scope, $1 || ':most:'))
           and kind = $2 and managed_by = 'api' and disabled_at is null
           and scope <> all ($3::text[])",
        scope,
        kind,
        but_for,
    )
    .execute(conn)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests;
