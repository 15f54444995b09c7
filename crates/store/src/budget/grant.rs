//! Grants: the amount of a budget that one replica may spend locally. In one transaction: lock the budgets in the order
//! of their ids, count with a fresh snapshot, write.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, query, query_as, query_scalar};

use super::amount;
use crate::Result;

/// One replica's row that a round is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantRequest {
    pub budget_id: i64,
    pub cell: DateTime<Utc>,
    /// The cells that count with it.
    pub since: DateTime<Utc>,
    pub until: DateTime<Utc>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locked {
    pub budget_id: i64,
    pub cap: i128,
    /// Its spend is counted, and all replicas that are alive follow it: something can be granted.
    pub is_open: bool,
}

/// Locks budgets for the length of the transaction.
pub async fn lock(conn: &mut PgConnection, budget_ids: &[i64]) -> Result<Vec<Locked>> {
    let rows = query!(
        r#"select budget_id, cap::text as "cap!",
                  disabled_at is null and counted_at is not null
                      and not exists (select 1 from worker w where w.budgets < b.since and w.lease_until > clock_timestamp())
                      as "is_open!"
           from budget b where budget_id = any ($1) order by budget_id for no key update of b"#,
        budget_ids,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| Ok(Locked { budget_id: row.budget_id, cap: amount(&row.cap)?, is_open: row.is_open }))
        .collect()
}

/// What is taken of a window, in the order of the asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Granted or spent by others, and by this replica in other cells.
    pub others: i128,
    /// This replica's own row.
    pub mine: i128,
    /// By all, as the ledger says.
    pub spent: i128,
    /// Of replicas that are gone, granted and not proven: it does not come back.
    pub unproven: i128,
}

/// After [`lock`], with the snapshot of a statement of its own.
pub async fn taken(conn: &mut PgConnection, worker_id: i64, asks: &[GrantRequest]) -> Result<Vec<Taken>> {
    let column = |get: fn(&GrantRequest) -> DateTime<Utc>| asks.iter().map(get).collect::<Vec<_>>();
    let ids: Vec<i64> = asks.iter().map(|ask| ask.budget_id).collect();
    let rows = query!(
        r#"select coalesce(sum(greatest(u.granted, u.spent)) filter (where not u.is_mine), 0)::text as "others!",
                  coalesce(sum(greatest(u.granted, u.spent)) filter (where u.is_mine), 0)::text as "mine!",
                  coalesce(sum(u.spent), 0)::text as "spent!",
                  coalesce(sum(greatest(u.granted - u.spent, 0)) filter (where u.is_gone), 0)::text as "unproven!"
           from unnest($2::bigint[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[])
                with ordinality as a(budget_id, cell, since, until, n)
           left join lateral (
               select granted, spent, worker_id = $1 and cell = a.cell as is_mine,
                      worker_id <> 0 and not exists (select 1 from worker w where w.worker_id = budget_use.worker_id) as is_gone
               from budget_use where budget_id = a.budget_id and cell between a.since and a.until
           ) u on true
           group by a.n order by a.n"#,
        worker_id,
        &ids,
        &column(|ask| ask.cell),
        &column(|ask| ask.since),
        &column(|ask| ask.until),
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Taken {
                others: amount(&row.others)?,
                mine: amount(&row.mine)?,
                spent: amount(&row.spent)?,
                unproven: amount(&row.unproven)?,
            })
        })
        .collect()
}

/// What a replica has from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantRow {
    pub budget_id: i64,
    pub cell: DateTime<Utc>,
    pub granted: i128,
    pub reserved: i128,
    pub free: i128,
}

/// Writes the replica's rows. More than before only under [`lock`]; less at any time.
pub async fn give(conn: &mut PgConnection, worker_id: i64, puts: &[GrantRow]) -> Result<()> {
    if puts.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = puts.iter().map(|put| put.budget_id).collect();
    let cells: Vec<DateTime<Utc>> = puts.iter().map(|put| put.cell).collect();
    let column = |get: fn(&GrantRow) -> i128| puts.iter().map(|put| get(put).to_string()).collect::<Vec<_>>();
    query!(
        "insert into budget_use (budget_id, cell, worker_id, granted, reserved, free)
         select p.budget_id, p.cell, $1, p.granted::numeric, p.reserved::numeric, p.free::numeric
         from unnest($2::bigint[], $3::timestamptz[], $4::text[], $5::text[], $6::text[])
             as p(budget_id, cell, granted, reserved, free)
         -- In the order in which settlements take them.
         order by p.budget_id, p.cell
         on conflict (budget_id, cell, worker_id) do update
             set granted = excluded.granted, reserved = excluded.reserved, free = excluded.free",
        worker_id,
        &ids,
        &cells,
        &column(|put| put.granted),
        &column(|put| put.reserved),
        &column(|put| put.free),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Replicas that follow budgets and are alive.
pub async fn replicas(conn: &mut PgConnection) -> Result<i64> {
    query_scalar!(
        r#"select count(*) as "n!" from worker where budgets is not null and lease_until > clock_timestamp()"#
    )
    .fetch_one(conn)
    .await
}

/// Says that this replica follows `revision`: it counts every call under these budgets, and has written what calls under way held
/// already. `false`: there is a newer one. In a transaction of its own.
pub async fn follow(conn: &mut PgConnection, worker_id: i64, revision: i64) -> Result<bool> {
    let current = super::revision_kept(conn).await?;
    if current != revision {
        return Ok(false);
    }
    query!("update worker set budgets = $2, budgets_at = clock_timestamp() where worker_id = $1", worker_id, revision)
        .execute(conn)
        .await?;
    Ok(true)
}

/// The same of a replica whose row is new, and which follows that revision all along.
pub async fn still_follow(conn: &mut PgConnection, worker_id: i64, revision: i64) -> Result<()> {
    query!("update worker set budgets = $2, budgets_at = clock_timestamp() where worker_id = $1", worker_id, revision)
        .execute(conn)
        .await?;
    Ok(())
}

/// A replica that is alive and makes calls under budgets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follower {
    pub worker_id: i64,
    pub host: String,
    /// Whether it follows the revision that was asked for, or a later one.
    pub follows: bool,
    /// Since when, at the latest; `None`: not yet, or it is of a version that does not say it.
    pub since: Option<DateTime<Utc>>,
}

/// All replicas that are alive and follow budgets, beside a revision.
pub async fn followers(conn: &mut PgConnection, revision: i64) -> Result<Vec<Follower>> {
    query_as!(
        Follower,
        r#"select worker_id, host, budgets >= $1 as "follows!", case when budgets >= $1 then budgets_at end as since
           from worker where budgets is not null and lease_until > clock_timestamp() order by worker_id"#,
        revision,
    )
    .fetch_all(conn)
    .await
}
