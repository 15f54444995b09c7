//! API keys. The database holds a MAC of each, under a pepper it does not have: a dump holds no key.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::Result;

#[derive(Debug)]
pub struct NewKey<'a> {
    /// The key's public part, 12 characters.
    pub key_id: &'a str,
    pub team_id: i64,
    pub name: &'a str,
    pub role: &'a str,
    /// At least one; the first is its default for synchronous calls.
    pub lanes: &'a [String],
    /// HMAC-SHA-256, 32 bytes.
    pub mac: &'a [u8],
    pub slots: Option<i64>,
    pub rpm: Option<i64>,
    pub tpm: Option<i64>,
    /// Refused from then on; `None`: never.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A key as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    pub key_id: String,
    pub team_id: i64,
    pub team: String,
    pub name: String,
    pub role: String,
    pub lanes: Vec<String>,
    pub slots: Option<i64>,
    pub rpm: Option<i64>,
    pub tpm: Option<i64>,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
}

/// A key as authentication needs it.
pub struct KeyChange {
    pub key_id: String,
    pub team_id: i64,
    pub team: String,
    pub role: String,
    pub lanes: Vec<String>,
    pub mac: Vec<u8>,
    pub slots: Option<i64>,
    pub rpm: Option<i64>,
    pub tpm: Option<i64>,
    pub expires_at: Option<DateTime<Utc>>,
    pub changed_at: DateTime<Utc>,
    pub is_revoked: bool,
}

/// A key whose end is near.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiringKey {
    pub key_id: String,
    pub team: String,
    pub name: String,
    pub role: String,
    pub expires_at: DateTime<Utc>,
}

/// Stores a key of an existing team. The caller shows the key itself once and forgets it.
pub async fn create(conn: &mut PgConnection, new: &NewKey<'_>) -> Result<KeyRow> {
    sqlx::query_as!(
        KeyRow,
        r#"with made as (
             insert into api_key (key_id, team_id, name, role, lanes, mac, slots, rpm, tpm, expires_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
             returning key_id, team_id, name, role, lanes, slots, rpm, tpm, created_at, expires_at, revoked_at)
           select made.key_id, made.team_id, team.name as team, made.name, made.role, made.lanes, made.slots, made.rpm,
                  made.tpm, made.created_at, made.expires_at, made.revoked_at
           from made join team using (team_id)"#,
        new.key_id,
        new.team_id,
        new.name,
        new.role,
        new.lanes,
        new.mac,
        new.slots,
        new.rpm,
        new.tpm,
        new.expires_at,
    )
    .fetch_one(conn)
    .await
}

/// Revokes a key for good. `None`: there is no such key. Again on a revoked key changes nothing.
pub async fn revoke(conn: &mut PgConnection, key_id: &str) -> Result<Option<KeyRow>> {
    sqlx::query!(
        "update api_key set revoked_at = now(), changed_at = clock_timestamp() where key_id = $1 and revoked_at is null",
        key_id,
    )
    .execute(&mut *conn)
    .await?;
    get(conn, key_id).await
}

pub async fn get(conn: &mut PgConnection, key_id: &str) -> Result<Option<KeyRow>> {
    sqlx::query_as!(
        KeyRow,
        "select k.key_id, k.team_id, t.name as team, k.name, k.role, k.lanes, k.slots, k.rpm, k.tpm, k.created_at,
                k.expires_at, k.revoked_at
         from api_key k join team t using (team_id) where k.key_id = $1",
        key_id,
    )
    .fetch_optional(conn)
    .await
}

/// Keys of one team or of all, the newest first, revoked ones included; at most `limit`, older than the key `before`.
pub async fn list(
    conn: &mut PgConnection,
    team_id: Option<i64>,
    before: Option<&str>,
    limit: i64,
) -> Result<Vec<KeyRow>> {
    sqlx::query_as!(
        KeyRow,
        "select k.key_id, k.team_id, t.name as team, k.name, k.role, k.lanes, k.slots, k.rpm, k.tpm, k.created_at,
                k.expires_at, k.revoked_at
         from api_key k join team t using (team_id)
         where ($1::bigint is null or k.team_id = $1)
           and ($2::text is null
                or (k.created_at, k.key_id) < (select b.created_at, b.key_id from api_key b where b.key_id = $2))
         order by k.created_at desc, k.key_id desc limit $3",
        team_id,
        before,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// Keys whose row changed at or after `since`; with `None` all that are not revoked. In the order of their change.
pub async fn changed_since(conn: &mut PgConnection, since: Option<DateTime<Utc>>) -> Result<Vec<KeyChange>> {
    sqlx::query_as!(
        KeyChange,
        r#"select k.key_id, k.team_id, t.name as team, k.role, k.lanes, k.mac, k.slots, k.rpm, k.tpm, k.expires_at,
                  k.changed_at, k.revoked_at is not null as "is_revoked!"
           from api_key k join team t using (team_id)
           where k.changed_at >= coalesce($1, '-infinity'::timestamptz) and ($1 is not null or k.revoked_at is null)
           order by k.changed_at"#,
        since,
    )
    .fetch_all(conn)
    .await
}

/// Says in the key's own record what its limit of a kind is; `None`: it has none. In the transaction that changes the limit.
pub async fn set_cap(conn: &mut PgConnection, key_id: &str, kind: &str, cap: Option<i64>) -> Result<()> {
    sqlx::query!(
        "update api_key
         set slots = case when $2 = 'slots' then $3 else slots end, rpm = case when $2 = 'rpm' then $3 else rpm end,
             tpm = case when $2 = 'tpm' then $3 else tpm end, changed_at = clock_timestamp()
         where key_id = $1",
        key_id,
        kind,
        cap,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether nobody would be left to administer the gateway without a key, or without all keys of a team: one of these is an admin
/// key in force, and no other is that stays so for a week. Under the lock that changes of keys and teams take.
pub async fn ends_administration(conn: &mut PgConnection, key_id: Option<&str>, team_id: Option<i64>) -> Result<bool> {
    sqlx::query_scalar!(
        r#"select coalesce(bool_or(is_lost), false)
                  and not coalesce(bool_or(not is_lost and (expires_at is null or expires_at > now() + interval '7 days')), false)
                  as "ends!"
           from (select (k.key_id = coalesce($1, '') or k.team_id = coalesce($2::bigint, 0)) as is_lost, k.expires_at
                 from api_key k join team t using (team_id)
                 where k.role = 'admin' and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())
                   and t.disabled_at is null) admin"#,
        key_id,
        team_id,
    )
    .fetch_one(conn)
    .await
}

/// Keys in force that expire within these days, the next one first.
pub async fn expiring(conn: &mut PgConnection, days: i32, limit: i64) -> Result<Vec<ExpiringKey>> {
    sqlx::query_as!(
        ExpiringKey,
        r#"select k.key_id, t.name as team, k.name, k.role, k.expires_at as "expires_at!"
           from api_key k join team t using (team_id)
           where k.expires_at > now() and k.expires_at < now() + make_interval(days => $1) and k.revoked_at is null
             and t.disabled_at is null
           order by k.expires_at limit $2"#,
        days,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// Ids of a team's keys that are in force.
pub async fn ids_of_team(conn: &mut PgConnection, team_id: i64) -> Result<Vec<String>> {
    sqlx::query_scalar!("select key_id from api_key where team_id = $1 and revoked_at is null", team_id)
        .fetch_all(conn)
        .await
}

/// Keys in force that have limits, each with its team.
pub async fn limited(conn: &mut PgConnection) -> Result<Vec<(String, i64)>> {
    let rows = sqlx::query!(
        "select key_id, team_id from api_key
         where revoked_at is null and (slots is not null or rpm is not null or tpm is not null)"
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.key_id, row.team_id)).collect())
}

#[cfg(test)]
mod tests {
    use sqlx::PgPool;

    use super::*;
    use crate::team;

    fn new<'a>(key_id: &'a str, team_id: i64, lanes: &'a [String]) -> NewKey<'a> {
        NewKey {
            key_id,
            team_id,
            name: "ci",
            role: "submit",
            lanes,
            mac: &[7; 32],
            slots: None,
            rpm: Some(60),
            tpm: None,
            expires_at: None,
        }
    }

    #[sqlx::test(migrations = "../../migrations")]
    async fn the_last_admin_key_is_known(pool: PgPool) -> Result<()> {
        let mut conn = pool.acquire().await?;
        let (ops, chat) = (create_team(&mut conn, "ops").await?, create_team(&mut conn, "chat").await?);
        let lanes = ["bulk".to_owned()];
        let admin = |key_id, team_id| NewKey { role: "admin", ..new(key_id, team_id, &lanes) };
        create(&mut conn, &admin("aaaaaaaaaaaa", ops)).await?;
        create(&mut conn, &new("ssssssssssss", chat, &lanes)).await?;
        assert!(ends_administration(&mut conn, Some("aaaaaaaaaaaa"), None).await?);
        assert!(ends_administration(&mut conn, None, Some(ops)).await?);
        assert!(!ends_administration(&mut conn, Some("ssssssssssss"), None).await?, "it is no admin key");
        assert!(!ends_administration(&mut conn, None, Some(chat)).await?);

        let soon = Some(Utc::now() + chrono::TimeDelta::days(6));
        create(&mut conn, &NewKey { expires_at: soon, ..admin("bbbbbbbbbbbb", chat) }).await?;
        assert!(ends_administration(&mut conn, Some("aaaaaaaaaaaa"), None).await?, "the other one ends within a week");
        let later = Some(Utc::now() + chrono::TimeDelta::days(8));
        create(&mut conn, &NewKey { expires_at: later, ..admin("cccccccccccc", chat) }).await?;
        assert!(!ends_administration(&mut conn, Some("aaaaaaaaaaaa"), None).await?);
        team::disable(&mut conn, "chat").await?;
        assert!(ends_administration(&mut conn, Some("aaaaaaaaaaaa"), None).await?, "the others' team is disabled");
        assert!(!ends_administration(&mut conn, Some("cccccccccccc"), None).await?, "it is refused already");
        Ok(())
    }

    #[sqlx::test(migrations = "../../migrations")]
    async fn keys_whose_end_is_near_are_found(pool: PgPool) -> Result<()> {
        let mut conn = pool.acquire().await?;
        let team = create_team(&mut conn, "search").await?;
        let lanes = ["bulk".to_owned()];
        for (key_id, days) in
            [("bbbbbbbbbbbb", Some(13)), ("aaaaaaaaaaaa", Some(2)), ("cccccccccccc", Some(15)), ("dddddddddddd", None)]
        {
            let expires_at = days.map(|days| Utc::now() + chrono::TimeDelta::days(days));
            create(&mut conn, &NewKey { expires_at, ..new(key_id, team, &lanes) }).await?;
        }
        let found = expiring(&mut conn, 14, 10).await?;
        assert_eq!(found.iter().map(|key| key.key_id.as_str()).collect::<Vec<_>>(), ["aaaaaaaaaaaa", "bbbbbbbbbbbb"]);
        revoke(&mut conn, "aaaaaaaaaaaa").await?;
        assert_eq!(expiring(&mut conn, 14, 10).await?.len(), 1);
        Ok(())
    }

    async fn create_team(conn: &mut PgConnection, name: &str) -> Result<i64> {
        Ok(team::create(conn, name, 1).await?.expect("the name is free").team_id)
    }

    #[sqlx::test(migrations = "../../migrations")]
    async fn changes_are_seen_and_revocation_is_final(pool: PgPool) -> Result<()> {
        let mut conn = pool.acquire().await?;
        let team = team::create(&mut conn, "search", 1).await?.expect("the name is free");
        let lanes = ["bulk".to_owned()];
        let made = create(&mut conn, &new("aaaaaaaaaaaa", team.team_id, &lanes)).await?;
        assert_eq!((made.team.as_str(), made.rpm, made.revoked_at), ("search", Some(60), None));
        let first = changed_since(&mut conn, None).await?;
        assert_eq!((first.len(), first[0].mac.as_slice(), first[0].is_revoked), (1, [7; 32].as_slice(), false));

        let revoked = revoke(&mut conn, "aaaaaaaaaaaa").await?.expect("it exists");
        assert!(revoked.revoked_at.is_some());
        assert_eq!(revoke(&mut conn, "aaaaaaaaaaaa").await?, Some(revoked), "nothing changes");
        let second = changed_since(&mut conn, Some(first[0].changed_at)).await?;
        assert!(second[0].is_revoked && second[0].changed_at > first[0].changed_at);
        assert_eq!(changed_since(&mut conn, None).await?.len(), 0, "a newcomer does not load revoked keys");
        assert_eq!(revoke(&mut conn, "bbbbbbbbbbbb").await?, None);
        Ok(())
    }

    #[sqlx::test(migrations = "../../migrations")]
    async fn pages_join_without_gap_or_overlap(pool: PgPool) -> Result<()> {
        let mut conn = pool.acquire().await?;
        let team = team::create(&mut conn, "search", 1).await?.expect("the name is free");
        let other = team::create(&mut conn, "chat", 1).await?.expect("the name is free");
        let lanes = ["bulk".to_owned()];
        for n in 0..5 {
            create(&mut conn, &new(&format!("k{n:011}"), team.team_id, &lanes)).await?;
        }
        create(&mut conn, &new("otherotherot", other.team_id, &lanes)).await?;
        let mut seen = Vec::new();
        let mut before: Option<String> = None;
        loop {
            let page = list(&mut conn, Some(team.team_id), before.as_deref(), 2).await?;
            let Some(last) = page.last() else { break };
            before = Some(last.key_id.clone());
            seen.extend(page.into_iter().map(|k| k.key_id));
        }
        assert_eq!(seen, ["k00000000004", "k00000000003", "k00000000002", "k00000000001", "k00000000000"]);
        assert_eq!(list(&mut conn, None, None, 100).await?.len(), 6);
        Ok(())
    }
}
