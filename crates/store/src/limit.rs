//! Limits and grants. A replica takes a grant here and spends it locally, so that a call needs no round trip and the sum of
//! what is granted never exceeds the limit.

use std::collections::HashMap;

use sqlx::{PgConnection, query, query_as};

use crate::Result;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitRow {
    pub limit_id: i64,
    pub scope: String,
    pub kind: String,
    pub cap: i64,
    pub managed_by: String,
}

/// All limits in force.
pub async fn active(conn: &mut PgConnection) -> Result<Vec<LimitRow>> {
    query_as!(
        LimitRow,
        r#"select limit_id, scope, kind, least(cap, 9223372036854775807)::bigint as "cap!", managed_by
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
         on conflict (scope, kind) do update set cap = excluded.cap, managed_by = 'file', disabled_at = null
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

/// Makes or changes a limit that the API manages. One in force that the file manages stays as it is: the caller has looked.
pub async fn set(conn: &mut PgConnection, scope: &str, kind: &str, cap: i64) -> Result<()> {
    query!(
        "insert into limit_rule as r (scope, kind, cap) values ($1, $2, $3::bigint)
         on conflict (scope, kind) do update set cap = excluded.cap, managed_by = 'api', disabled_at = null
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

/// Lifts the limits within a scope that the API manages, but for those of these scopes.
pub async fn lift_within(conn: &mut PgConnection, scope: &str, kind: &str, but_for: &[String]) -> Result<()> {
    query!(
        "update limit_rule set disabled_at = now()
         where starts_with(scope, $1::text || ':') and kind = $2 and managed_by = 'api' and disabled_at is null
           and scope <> all ($3::text[])",
        scope,
        kind,
        but_for,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// One replica's wish.
#[derive(Debug, Clone, Copy)]
pub struct Want {
    pub limit_id: i64,
    /// Slots in use. Rates: the largest single call that waits.
    pub used: i64,
    /// What it could use now; of slots, `used` included.
    pub wanted: i64,
}

/// Grants slots: each replica gets what it wants while all fit; when they do not, an equal part. A grant can be less than what
/// is in use, after a cap was lowered: then what is in use stays recorded until calls have ended. Rows are locked in the order of
/// their ids, then counted by a fresh snapshot. Inside a transaction. Gives the new grants.
pub async fn grant_slots(conn: &mut PgConnection, worker_id: i64, wants: &[Want]) -> Result<HashMap<i64, i64>> {
    let ids: Vec<i64> = wants.iter().map(|w| w.limit_id).collect();
    let caps = query!(
        r#"select limit_id, case when disabled_at is null then least(cap, 1000000000)::bigint else 1000000000 end as "cap!"
           from limit_rule where limit_id = any($1) order by limit_id for no key update"#,
        &ids
    )
    .fetch_all(&mut *conn)
    .await?;
    let others = query!(
        r#"select limit_id, granted, wanted from limit_use where limit_id = any($1) and worker_id <> $2"#,
        &ids,
        worker_id
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut granted = HashMap::with_capacity(wants.len());
    for want in wants {
        let Some(cap) = caps.iter().find(|c| c.limit_id == want.limit_id).map(|c| c.cap) else { continue };
        let held: i64 = others.iter().filter(|o| o.limit_id == want.limit_id).map(|o| o.granted).sum();
        let mut wishes: Vec<i64> = others.iter().filter(|o| o.limit_id == want.limit_id).map(|o| o.wanted).collect();
        wishes.push(want.wanted);
        let fair = fair_part(cap, &wishes, want.wanted);
        granted.insert(want.limit_id, fair.min(cap - held).max(0));
    }
    let limit_ids: Vec<i64> = granted.keys().copied().collect();
    let find = |id: &i64| wants.iter().find(|w| w.limit_id == *id);
    let used: Vec<i64> = limit_ids.iter().map(|id| find(id).map_or(0, |w| w.used)).collect();
    let wanted: Vec<i64> = limit_ids.iter().map(|id| find(id).map_or(0, |w| w.wanted)).collect();
    let recorded: Vec<i64> = limit_ids.iter().zip(&used).map(|(id, used)| granted[id].max(*used)).collect();
    query!(
        "insert into limit_use (limit_id, worker_id, granted, used, wanted)
         select u.limit_id, $1, u.granted, u.used, u.wanted
         from unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) as u(limit_id, granted, used, wanted)
         on conflict (limit_id, worker_id) do update
             set granted = excluded.granted, used = excluded.used, wanted = excluded.wanted",
        worker_id,
        &limit_ids,
        &recorded,
        &used,
        &wanted,
    )
    .execute(conn)
    .await?;
    Ok(granted)
}

/// What `mine` gets of `cap` when `wishes` (mine among them) compete: max-min fair, remainders to nobody.
fn fair_part(cap: i64, wishes: &[i64], mine: i64) -> i64 {
    let mut sorted = wishes.to_vec();
    sorted.sort_unstable();
    let mut left = cap;
    for (n, wish) in sorted.iter().enumerate() {
        let part = left / (sorted.len() - n) as i64;
        if *wish > part {
            return mine.min(part.max(1));
        }
        if *wish == mine {
            return mine;
        }
        left -= wish;
    }
    mine
}

/// Takes from rate limits: a bucket of a tenth of a minute's cap that fills at nine tenths of the cap a minute, so that no
/// minute sees more than the cap. It may be drawn below zero by one request larger than the bucket. Gives what was taken.
pub async fn grant_rate(conn: &mut PgConnection, wants: &[Want]) -> Result<HashMap<i64, i64>> {
    let ids: Vec<i64> = wants.iter().map(|w| w.limit_id).collect();
    let wanted: Vec<i64> = wants.iter().map(|w| w.wanted).collect();
    let largest: Vec<i64> = wants.iter().map(|w| w.used).collect();
    let rows = query!(
        r#"with held as (
               select r.limit_id, w.wanted, w.largest, greatest(1, least(cap, 1e15)::double precision / 10) as burst,
                      least(cap, 1e15)::double precision * 9 / 10 / 60 as per_s, r.level, r.level_at
               from limit_rule r join unnest($1::bigint[], $2::bigint[], $3::bigint[]) as w(limit_id, wanted, largest) on w.limit_id = r.limit_id
               order by r.limit_id
               for no key update of r
           ), full_now as (
               select limit_id, wanted, largest, burst,
                      case when level_at = '-infinity' then burst
                           else least(burst, level + per_s * extract(epoch from clock_timestamp() - level_at)) end as level
               from held
           ), given as (
               select limit_id,
                      case when level < 1 then 0
                           when level >= burst then least(wanted, greatest(floor(level)::bigint, largest))
                           else least(wanted, floor(level)::bigint) end as take,
                      level
               from full_now
           ), written as (
               update limit_rule r set level = g.level - g.take, level_at = clock_timestamp()
               from given g where r.limit_id = g.limit_id
           )
           select limit_id as "limit_id!", take as "take!" from given"#,
        &ids,
        &wanted,
        &largest,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|r| (r.limit_id, r.take)).collect())
}

/// Puts back what was taken from rate limits and not spent. A bucket never holds more than its measure, so this cannot pile up.
pub async fn return_rate(conn: &mut PgConnection, limit_ids: &[i64], amounts: &[i64]) -> Result<()> {
    query!(
        "with held as (
             select r.limit_id, u.amount, greatest(1, least(cap, 1e15)::double precision / 10) as burst,
                    least(cap, 1e15)::double precision * 9 / 10 / 60 as per_s
             from limit_rule r join unnest($1::bigint[], $2::bigint[]) as u(limit_id, amount) on u.limit_id = r.limit_id
             -- In the order in which grants lock them.
             order by r.limit_id
             for no key update of r
         )
         update limit_rule r
         set level = least(h.burst, r.level + h.per_s * extract(epoch from clock_timestamp() - r.level_at) + h.amount),
             level_at = clock_timestamp()
         from held h where r.limit_id = h.limit_id and r.level_at > '-infinity'",
        limit_ids,
        amounts,
    )
    .execute(conn)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests;
