//! Quotas of what a team has waiting: requests of its jobs that have not ended, and bytes of all that are still on disk. An upload
//! reserves ahead of each chunk, so that concurrent ones cannot pass the quota together. A job's requests count whole until it
//! ends, its bytes until its bodies are purged or their partitions dropped.

use sqlx::{PgConnection, PgPool, Postgres, Transaction, query, query_as, query_scalar};

use crate::Result;

/// The most a team may have waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    pub requests: i64,
    pub bytes: i64,
}

/// What an upload wants to add.
#[derive(Debug, Clone, Copy)]
pub struct Want {
    pub team_id: i64,
    pub job_id: i64,
    pub requests: i64,
    pub bytes: i64,
}

/// A quota that does not take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Over {
    /// `pending_requests` or `pending_bytes`, as limits are named.
    pub kind: &'static str,
    pub cap: i64,
    /// Of the team's other jobs.
    pub used: i64,
    /// What this upload would have come to so far.
    pub asked: i64,
}

/// What a team's jobs hold: requests that have not ended, bytes on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub requests: i64,
    pub bytes: i64,
}

/// A transaction for [`reserve`]. Its commit does not wait for the disk: the items that it makes room for come later in the log.
pub async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>> {
    pool.begin_with("begin; set local synchronous_commit = off").await
}

/// Reserves, or says what is in the way. Inside a transaction that had better end at once: it holds the team's usage. Commit
/// it in both cases, since a refusal has counted. `default` holds for teams without a quota of their own.
pub async fn reserve(conn: &mut PgConnection, want: Want, default: Quota) -> Result<Option<Over>> {
    if take(conn, want, default).await? {
        return Ok(None);
    }
    count_anew(conn, want.team_id).await?;
    if take(conn, want, default).await? {
        return Ok(None);
    }
    let quota = of_team(conn, want.team_id, default).await?;
    let known =
        query!("select requests, bytes from team_usage where team_id = $1", want.team_id).fetch_one(&mut *conn).await?;
    let held =
        query!("select requests, bytes from upload_hold where job_id = $1", want.job_id).fetch_optional(conn).await?;
    let (requests, bytes) = held.map_or((0, 0), |held| (held.requests, held.bytes));
    let over_requests = known.requests + want.requests > quota.requests;
    let (kind, cap, used, held, more) = match over_requests {
        true => ("pending_requests", quota.requests, known.requests, requests, want.requests),
        false => ("pending_bytes", quota.bytes, known.bytes, bytes, want.bytes),
    };
    Ok(Some(Over { kind, cap, used: used - held, asked: held + more }))
}

/// Adds to the team's usage and to the upload's hold, if both quotas take it.
async fn take(conn: &mut PgConnection, want: Want, default: Quota) -> Result<bool> {
    let taken = query!(
        "with own as (
             select max(cap) filter (where kind = 'pending_requests') as requests,
                    max(cap) filter (where kind = 'pending_bytes') as bytes
             from limit_rule
             where scope = 'team:' || $1::bigint and kind in ('pending_requests', 'pending_bytes') and disabled_at is null
         ), taken as (
             update team_usage u set requests = u.requests + $3, bytes = u.bytes + $4
             from own
             where u.team_id = $1
               and u.requests + $3 <= coalesce(own.requests, $5::bigint) and u.bytes + $4 <= coalesce(own.bytes, $6::bigint)
             returning 1
         )
         insert into upload_hold as h (job_id, team_id, requests, bytes)
         select $2::bigint, $1, $3::bigint, $4::bigint from taken
         on conflict (job_id) do update set requests = h.requests + excluded.requests, bytes = h.bytes + excluded.bytes",
        want.team_id,
        want.job_id,
        want.requests,
        want.bytes,
        default.requests,
        default.bytes,
    )
    .execute(conn)
    .await?;
    Ok(taken.rows_affected() == 1)
}

/// Counts what the team's jobs hold, under the lock of its usage. A count that took long is not repeated soon: refused uploads
/// that are tried again and again must not keep the database busy.
async fn count_anew(conn: &mut PgConnection, team_id: i64) -> Result<()> {
    query!("insert into team_usage (team_id) values ($1) on conflict (team_id) do nothing", team_id)
        .execute(&mut *conn)
        .await?;
    let due = query_scalar!(
        r#"select count_took < interval '50 ms' or counted_at + 20 * count_took <= clock_timestamp() as "due!"
           from team_usage where team_id = $1 for update"#,
        team_id,
    )
    .fetch_one(&mut *conn)
    .await?;
    if !due {
        return Ok(());
    }
    let began = query_scalar!(r#"select clock_timestamp() as "now!""#).fetch_one(&mut *conn).await?;
    // A statement of its own: its snapshot is from after the lock, so it sees all that was reserved before.
    let counted = usage(conn, team_id).await?;
    query!(
        "update team_usage
         set requests = $2, bytes = $3, counted_at = clock_timestamp(), count_took = clock_timestamp() - $4::timestamptz
         where team_id = $1",
        team_id,
        counted.requests,
        counted.bytes,
        began,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Counts what a team's jobs hold: of uploads under way what they reserved, of others what they have. The partition of an item
/// is the day in its flow's id.
pub async fn usage(conn: &mut PgConnection, team_id: i64) -> Result<Usage> {
    query_as!(
        Usage,
        r#"with kept as materialized (
               select to_date(right(c.relname, 8), 'YYYYMMDD') as day
               from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'item'::regclass
           ), ended as (
               select bytes from job
               where team_id = $1 and finished_at is not null and purged_at is null
                 -- A flow's id is made after its job's: a job of the evening can have items in the next day's partition.
                 and job_id >= (select (extract(epoch from min(day) - 1) * 1000)::bigint << 22 from kept)
                 and exists (
                     select 1 from unnest(flow_ids) f
                     join kept on kept.day = (to_timestamp((f >> 22) / 1000.0) at time zone 'UTC')::date)
           )
           select sum(requests)::bigint as "requests!", sum(bytes)::bigint as "bytes!"
           from (
               select coalesce(sum(accepted), 0) as requests, coalesce(sum(bytes), 0) as bytes
               from job where team_id = $1 and finished_at is null and state <> 'uploading'
               union all
               select 0, coalesce(sum(bytes), 0) from ended
               union all
               select coalesce(sum(requests), 0), coalesce(sum(bytes), 0) from upload_hold where team_id = $1
           ) held"#,
        team_id,
    )
    .fetch_one(conn)
    .await
}

/// The team's own quotas, `default` where it has none.
pub async fn of_team(conn: &mut PgConnection, team_id: i64, default: Quota) -> Result<Quota> {
    query_as!(
        Quota,
        r#"select coalesce(max(cap) filter (where kind = 'pending_requests'), $2::bigint)::bigint as "requests!",
                  coalesce(max(cap) filter (where kind = 'pending_bytes'), $3::bigint)::bigint as "bytes!"
           from limit_rule where scope = 'team:' || $1::bigint and disabled_at is null"#,
        team_id,
        default.requests,
        default.bytes,
    )
    .fetch_one(conn)
    .await
}

/// Reserves in a transaction of its own.
pub async fn reserve_now(pool: &PgPool, want: Want, default: Quota) -> Result<Option<Over>> {
    let mut tx = begin(pool).await?;
    let over = reserve(&mut tx, want, default).await?;
    tx.commit().await?;
    Ok(over)
}

#[cfg(test)]
mod tests;
