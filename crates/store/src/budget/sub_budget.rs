//! Sub-budgets: the amount that a guard allows one job, feature or team over a rolling window, and the `max_cost` of a
//! job. Their grants and their spend are in `budget_use`, under their own ids.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use domain::budget::{Length, Subject};
use sqlx::{PgConnection, query, query_scalar};

use super::{Locked, amount};
use crate::Result;

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubBudgetKey {
    pub budget_id: i64,
    pub subject: Subject,
    pub per_s: i64,
}

impl SubBudgetKey {
    /// What the job may cost at all.
    pub fn of_job(job_id: i64) -> Self {
        Self { budget_id: 0, subject: Subject::Job(job_id), per_s: 0 }
    }
}

/// Their ids; those that are new are made.
pub async fn sub_budget_ids(conn: &mut PgConnection, keys: &[SubBudgetKey]) -> Result<HashMap<SubBudgetKey, i64>> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let budgets: Vec<i64> = keys.iter().map(|key| key.budget_id).collect();
    let subjects: Vec<String> = keys.iter().map(|key| key.subject.to_string()).collect();
    let jobs: Vec<Option<i64>> = keys.iter().map(|key| key.subject.job()).collect();
    let lengths: Vec<i64> = keys.iter().map(|key| key.per_s).collect();
    query!(
        "insert into budget_part (budget_id, subject, job_id, per_s)
         select * from unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[]) as k(budget_id, subject, job_id, per_s)
         -- Always in one order, so that two that make the same do not wait for each other.
         order by budget_id, subject, per_s
         on conflict do nothing",
        &budgets,
        &subjects,
        &jobs as &[Option<i64>],
        &lengths,
    )
    .execute(&mut *conn)
    .await?;
    // With a snapshot of its own: another transaction may have made some of them.
    let rows = query!(
        r#"select k.n as "n!", p.part_id
           from unnest($1::bigint[], $2::text[], $3::bigint[]) with ordinality as k(budget_id, subject, per_s, n)
           join budget_part p using (budget_id, subject, per_s)"#,
        &budgets,
        &subjects,
        &lengths,
    )
    .fetch_all(conn)
    .await?;
    let key_of = |n: i64| usize::try_from(n - 1).ok().and_then(|n| keys.get(n)).cloned();
    Ok(rows.into_iter().filter_map(|row| Some((key_of(row.n)?, row.part_id))).collect())
}

/// Locks sub-budgets for the length of the transaction, after their budgets. A sub-budget grants nothing if its guard
/// is gone, or before all live replicas enforce it.
pub async fn lock_sub_budgets(conn: &mut PgConnection, sub_budget_ids: &[i64]) -> Result<Vec<Locked>> {
    if sub_budget_ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = query!(
        r#"select p.part_id,
                  coalesce(p.cap, trunc(b.cap * (b.document->'guard'->>'percent')::integer / 100), 0)::text as "rate!",
                  p.cap is not null or b.disabled_at is null
                      and not exists (select 1 from worker w where w.budgets < b.revision and w.lease_until > clock_timestamp())
                      as "is_open!"
           from budget_part p left join budget b using (budget_id)
           where p.part_id = any ($1) order by p.part_id for no key update of p"#,
        sub_budget_ids,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| Ok(Locked { budget_id: row.part_id, cap: amount(&row.rate)?, is_open: row.is_open }))
        .collect()
}

/// What a job may cost at all, from now on.
pub async fn cap_job(conn: &mut PgConnection, job_id: i64, cap: i128) -> Result<()> {
    let key = SubBudgetKey::of_job(job_id);
    query!(
        "with job as (update job set max_cost = $3::text::numeric where job_id = $1)
         insert into budget_part as p (budget_id, subject, job_id, per_s, cap) values (0, $2, $1, 0, $3::text::numeric)
         on conflict (budget_id, subject, per_s) do update set cap = excluded.cap",
        job_id,
        key.subject.to_string(),
        cap.to_string(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Which of these jobs have a limit of their own.
pub async fn capped(conn: &mut PgConnection, job_ids: &[i64]) -> Result<Vec<i64>> {
    query_scalar!("select job_id from job where job_id = any ($1) and max_cost is not null", job_ids)
        .fetch_all(conn)
        .await
}

/// A job that a guard keeps paused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guarded {
    pub job_id: i64,
    pub part_id: i64,
    pub per: Length,
    /// What may be spent now; `None`: the guard is gone.
    pub rate: Option<i128>,
    /// The most that its next request can cost.
    pub needs: i128,
    pub budget: String,
}

pub async fn guarded(conn: &mut PgConnection) -> Result<Vec<Guarded>> {
    let rows = query!(
        r#"select h.job_id, p.part_id, p.per_s, h.needs::text as "needs!", b.name,
                  case when b.disabled_at is null and (b.document->'guard'->>'per') is not null
                       then trunc(b.cap * (b.document->'guard'->>'percent')::integer / 100)::text end as rate
           from job_hold h join budget_part p using (part_id) join budget b using (budget_id)
           where h.reason = 'guard' and h.lifted_until is null order by h.held_at, h.job_id"#
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Guarded {
                job_id: row.job_id,
                part_id: row.part_id,
                per: Length::from_seconds(row.per_s)
                    .ok_or_else(|| sqlx::Error::Decode("a guard without a time".into()))?,
                rate: row.rate.as_deref().map(amount).transpose()?,
                needs: amount(&row.needs)?,
                budget: row.name,
            })
        })
        .collect()
}

/// Drops, at most `most` rows at once, what was counted of parts whose time has long passed, and parts of jobs that have ended and of
/// budgets that are gone. Gives how many rows went.
pub async fn forget_sub_budgets(conn: &mut PgConnection, now: DateTime<Utc>, most: i64) -> Result<u64> {
    let cells = query!(
        "delete from budget_use where (budget_id, cell, worker_id) in (
             select u.budget_id, u.cell, u.worker_id from budget_part p
             cross join lateral (
                 select budget_id, cell, worker_id from budget_use
                 -- Calls that began in it may come in late.
                 where budget_id = p.part_id and cell < $1::timestamptz - make_interval(secs => 2 * p.per_s + 3600)
             ) u
             -- What a job may cost at all looks back to its beginning.
             where p.per_s > 0
                or exists (select 1 from job j where j.job_id = p.job_id and j.finished_at < $1::timestamptz - interval '1 hour')
             limit $2)",
        now,
        most,
    )
    .execute(&mut *conn)
    .await?;
    let sub_budgets = query!(
        "delete from budget_part where part_id in (
             select p.part_id from budget_part p
             where p.created_at < $1::timestamptz - interval '1 hour'
               and not exists (select 1 from budget_use u where u.budget_id = p.part_id)
               and (exists (select 1 from job j where j.job_id = p.job_id and j.finished_at is not null)
                    or exists (select 1 from budget b where b.budget_id = p.budget_id and b.disabled_at is not null))
             limit $2)",
        now,
        most,
    )
    .execute(conn)
    .await?;
    Ok(cells.rows_affected() + sub_budgets.rows_affected())
}
