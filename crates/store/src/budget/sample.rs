//! Samples of what was spent of a window, by which it is known how fast it is spent now.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, query};

use super::amount;
use crate::Result;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub budget_id: i64,
    pub at: DateTime<Utc>,
    pub spent: i128,
}

pub async fn keep_samples(conn: &mut PgConnection, samples: &[Sample]) -> Result<()> {
    let ids: Vec<i64> = samples.iter().map(|sample| sample.budget_id).collect();
    let times: Vec<DateTime<Utc>> = samples.iter().map(|sample| sample.at).collect();
    let amounts: Vec<String> = samples.iter().map(|sample| sample.spent.to_string()).collect();
    query!(
        "insert into budget_sample (budget_id, at, spent)
         select s.budget_id, s.at, s.spent::numeric
         from unnest($1::bigint[], $2::timestamptz[], $3::text[]) as s(budget_id, at, spent)
         on conflict do nothing",
        &ids,
        &times,
        &amounts,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Of each of the budgets `(budget, since)`, in their order, the first sample since then.
pub async fn first_samples(conn: &mut PgConnection, asked: &[(i64, DateTime<Utc>)]) -> Result<Vec<Option<Sample>>> {
    let (ids, since): (Vec<i64>, Vec<DateTime<Utc>>) = asked.iter().copied().unzip();
    let rows = query!(
        r#"select a.budget_id as "budget_id!", s.at as "at?", s.spent::text as spent
           from unnest($1::bigint[], $2::timestamptz[]) with ordinality as a(budget_id, since, n)
           left join lateral (
               select at, spent from budget_sample
               where budget_id = a.budget_id and at >= a.since order by at limit 1
           ) s on true
           order by a.n"#,
        &ids,
        &since,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let Some((at, spent)) = row.at.zip(row.spent) else { return Ok(None) };
            Ok(Some(Sample { budget_id: row.budget_id, at, spent: amount(&spent)? }))
        })
        .collect()
}

pub async fn forget_samples(conn: &mut PgConnection, before: DateTime<Utc>) -> Result<u64> {
    let done = query!("delete from budget_sample where at < $1", before).execute(conn).await?;
    Ok(done.rows_affected())
}
