//! What was spent of budgets: always the ledger's sum, because it is written in the transactions that write to the ledger.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use domain::{
    Budget,
    budget::{Scope, Span, Unit, Window},
};
use sqlx::{PgConnection, query, query_scalar, types::Json};

use super::{Sample, amount, keep_samples};
use crate::Result;

/// What ledger rows of one worker add to one cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spend {
    pub budget_id: i64,
    pub cell: DateTime<Utc>,
    pub worker_id: i64,
    pub amount: i128,
    /// Of the amount, what rows add that correct others. Of a replica that is gone it comes off its grant too: what it was granted
    /// beyond its spend says nothing of what a correction takes back.
    pub corrected: i128,
}

/// In the transaction that inserts the rows; sorted, so that two of them cannot deadlock.
pub async fn add(conn: &mut PgConnection, spends: &[Spend]) -> Result<()> {
    if spends.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = spends.iter().map(|spend| spend.budget_id).collect();
    let cells: Vec<DateTime<Utc>> = spends.iter().map(|spend| spend.cell).collect();
    let workers: Vec<i64> = spends.iter().map(|spend| spend.worker_id).collect();
    let amounts: Vec<String> = spends.iter().map(|spend| spend.amount.to_string()).collect();
    let corrected: Vec<String> = spends.iter().map(|spend| spend.corrected.to_string()).collect();
    query!(
        "insert into budget_use as u (budget_id, cell, worker_id, spent, granted)
         select s.budget_id, s.cell, s.worker_id, s.amount::numeric,
                case when s.corrected <> '0' and not exists (select from worker w where w.worker_id = s.worker_id)
                     then s.corrected::numeric else 0 end
         from unnest($1::bigint[], $2::timestamptz[], $3::bigint[], $4::text[], $5::text[])
             as s(budget_id, cell, worker_id, amount, corrected)
         order by s.budget_id, s.cell, s.worker_id
         on conflict (budget_id, cell, worker_id) do update
             set spent = u.spent + excluded.spent, granted = u.granted + excluded.granted",
        &ids,
        &cells,
        &workers,
        &amounts,
        &corrected,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What a replica that is gone was granted stays spent, for it may have made calls of which nothing was written. One without
/// synchronous calls wrote a lease before each, and all of those are booked: what it was granted beyond comes back. So it is with what
/// one job may spend, for synchronous calls are no job's.
/// In the transaction that forgets it.
pub async fn close(conn: &mut PgConnection, worker_id: i64) -> Result<()> {
    query!(
        "update budget_use u set reserved = 0, free = 0,
             granted = case when (select 'api' = any (roles) from worker where worker_id = $1)
                                 and not exists (select 1 from budget_part p where p.part_id = u.budget_id and p.job_id is not null)
                            then granted else spent end
         where worker_id = $1 and (granted <> spent or reserved <> 0 or free <> 0)",
        worker_id,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Drops what was counted in cells before `since`: their windows are over.
pub async fn forget(conn: &mut PgConnection, budget_id: i64, since: DateTime<Utc>) -> Result<u64> {
    let done =
        query!("delete from budget_use where budget_id = $1 and cell < $2", budget_id, since).execute(conn).await?;
    Ok(done.rows_affected())
}

/// A budget whose window began before it was declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uncounted {
    pub budget_id: i64,
    pub budget: Budget,
}

/// One whose past spend is to be counted, locked for that; others pass over it. The first statement of a transaction with one
/// snapshot.
pub async fn uncounted(conn: &mut PgConnection) -> Result<Option<Uncounted>> {
    query("set transaction isolation level repeatable read").execute(&mut *conn).await?;
    let row = query!(
        r#"select budget_id, document as "document: Json<Budget>" from budget
           where counted_at is null and disabled_at is null limit 1 for update skip locked"#
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Uncounted { budget_id: row.budget_id, budget: row.document.0 }))
}

/// Adds the ledger's spend of the window that is not counted yet, under worker 0, and keeps all of it as the first sample. After
/// [`uncounted`]: in one snapshot, each transaction that wrote to the ledger is either seen whole, with what it counted, or not at all.
pub async fn count(conn: &mut PgConnection, one: &Uncounted, now: DateTime<Utc>) -> Result<()> {
    let (mut spends, mut spent) = (Vec::new(), 0);
    for sum in sums(conn, one.budget_id, &one.budget, now).await? {
        spent += sum.ledger;
        let amount = sum.ledger - sum.counted;
        if amount != 0 {
            spends.push(Spend { budget_id: one.budget_id, cell: sum.cell, worker_id: 0, amount, corrected: 0 });
        }
    }
    add(conn, &spends).await?;
    // From here on it is known how fast it burns.
    keep_samples(conn, &[Sample { budget_id: one.budget_id, at: now, spent }]).await?;
    query!("update budget set counted_at = clock_timestamp() where budget_id = $1", one.budget_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// A window's spend, as the ledger has it and as it was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verified {
    pub ledger: i128,
    pub counted: i128,
}

/// Both sides in one snapshot.
pub async fn verify(conn: &mut PgConnection, budget_id: i64, budget: &Budget, now: DateTime<Utc>) -> Result<Verified> {
    let sums = sums(conn, budget_id, budget, now).await?;
    Ok(sums.iter().fold(Verified::default(), |all, sum| Verified {
        ledger: all.ledger + sum.ledger,
        counted: all.counted + sum.counted,
    }))
}

struct Sum {
    cell: DateTime<Utc>,
    ledger: i128,
    counted: i128,
}

async fn sums(conn: &mut PgConnection, budget_id: i64, budget: &Budget, now: DateTime<Utc>) -> Result<Vec<Sum>> {
    let span = budget.window.span(budget.time_zone, now);
    let (since, until, day) = bounds(budget, now);
    let Scope { team, environment, feature, customer, key, job, deployment, provider, tags } = &budget.scope;
    let rows = query!(
        r#"with booked as (
               select case when $2::bigint is null then $3
                           else to_timestamp(floor(extract(epoch from reserved_at) / $2) * $2) end as cell,
                      case when $15::boolean
                           then coalesce(prompt_total, 0) + coalesce(output_text, 0) + coalesce(output_reasoning, 0)
                                + coalesce(output_audio, 0)
                           else coalesce(contracted_cost, 0) end as amount
               from ledger
               where usage_date >= $4 and reserved_at >= $3 and reserved_at < $5
                 and ($6::text is null or team = $6) and ($7::text is null or environment = $7)
                 and ($8::text is null or feature = $8) and ($9::text is null or customer = $9)
                 and ($10::text is null or key_id = $10) and ($11::bigint is null or job_id = $11)
                 and ($12::text is null or deployment = $12) and ($13::text is null or provider = $13)
                 and ($14::jsonb = '{}' or tags_json::jsonb @> $14)
           ), by_cell as (
               select cell, sum(amount) as amount from booked group by cell
           ), counted as (
               select cell, sum(spent) as amount from budget_use
               where budget_id = $1 and cell >= $3 and cell < $5 group by cell
           )
           select coalesce(b.cell, c.cell) as "cell!", coalesce(b.amount, 0)::text as "ledger!",
                  coalesce(c.amount, 0)::text as "counted!"
           from by_cell b full join counted c on c.cell = b.cell"#,
        budget_id,
        step(budget.window, span),
        since,
        day,
        until,
        team.as_deref(),
        environment.as_deref(),
        feature.as_deref(),
        customer.as_deref(),
        key.as_deref(),
        job.map(|job| job.0),
        deployment.as_deref(),
        provider.as_deref(),
        Json(tags) as _,
        budget.unit() == Unit::Tokens,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| Ok(Sum { cell: row.cell, ledger: amount(&row.ledger)?, counted: amount(&row.counted)? }))
        .collect()
}

/// The moments between which the window's money was reserved, and the first day on which its calls can have ended.
pub(super) fn bounds(budget: &Budget, now: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>, NaiveDate) {
    let span = budget.window.span(budget.time_zone, now);
    // A day is when a call ended, never before its money was reserved.
    let day = span.since.date_naive().max(NaiveDate::from_ymd_opt(2000, 1, 1).unwrap_or_default());
    (span.since, until(budget.window, span), day)
}

/// Of a rolling window, how long a cell is, in seconds; the others are one cell.
fn step(window: Window, span: Span) -> Option<i64> {
    window.length().map(|_| (span.end - span.start).num_seconds())
}

/// A rolling window has no end but now; replicas' clocks may be a little ahead. PostgreSQL's times have an end.
fn until(window: Window, span: Span) -> DateTime<Utc> {
    match window {
        Window::Rolling(_) => span.end + TimeDelta::days(1),
        Window::Total => DateTime::from_timestamp(253_402_300_799, 0).unwrap_or(span.start),
        _ => span.end,
    }
}

/// How a window stands, over all replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    pub spent: i128,
    pub reserved: i128,
    pub unproven: i128,
    /// What can no longer be granted: all of the above, and what was spent beyond its grant.
    pub taken: i128,
}

/// Of each of the windows `(budget, since, until)`, in their order; the ends are inclusive.
pub async fn standing(
    conn: &mut PgConnection,
    windows: &[(i64, DateTime<Utc>, DateTime<Utc>)],
) -> Result<Vec<Standing>> {
    let ids: Vec<i64> = windows.iter().map(|(id, ..)| *id).collect();
    let since: Vec<DateTime<Utc>> = windows.iter().map(|(_, since, _)| *since).collect();
    let until: Vec<DateTime<Utc>> = windows.iter().map(|(.., until)| *until).collect();
    let rows = query!(
        r#"select coalesce(sum(u.spent), 0)::text as "spent!",
                  coalesce(sum(u.reserved) filter (where u.is_alive), 0)::text as "reserved!",
                  coalesce(sum(greatest(u.granted - u.spent - case when u.is_alive then u.reserved + u.free else 0 end, 0)), 0)::text
                      as "unproven!",
                  coalesce(sum(greatest(u.granted - case when u.is_alive then u.free else 0 end, u.spent)), 0)::text as "taken!"
           from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) with ordinality as a(budget_id, since, until, n)
           left join lateral (
               select granted, spent, reserved, free,
                      exists (select 1 from worker w where w.worker_id = budget_use.worker_id) as is_alive
               from budget_use where budget_id = a.budget_id and cell between a.since and a.until
           ) u on true
           group by a.n order by a.n"#,
        &ids,
        &since,
        &until,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Standing {
                spent: amount(&row.spent)?,
                reserved: amount(&row.reserved)?,
                unproven: amount(&row.unproven)?,
                taken: amount(&row.taken)?,
            })
        })
        .collect()
}

pub async fn has_uncounted(conn: &mut PgConnection) -> Result<bool> {
    query_scalar!(r#"select exists (select 1 from budget where counted_at is null and disabled_at is null) as "any!""#)
        .fetch_one(conn)
        .await
}
