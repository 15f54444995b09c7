//! Which calls took a budget over its limit, by the ledger.

use chrono::{DateTime, Utc};
use domain::{
    Budget,
    budget::{Scope, Unit},
};
use sqlx::{PgConnection, query, types::Json};
use uuid::Uuid;

use super::{amount, spend::bounds};
use crate::Result;

/// A row of the ledger with which, or after which, the window's sum was above the limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverCall {
    pub attempt_id: Uuid,
    pub request_id: String,
    pub team: String,
    pub deployment: String,
    pub recorded_at: DateTime<Utc>,
    /// What it added, in the budget's unit.
    pub amount: i128,
    /// What was held for it, in pico-USD; `None` of tokens, or where nothing was.
    pub held: Option<i128>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Over {
    /// The largest first.
    pub calls: Vec<OverCall>,
    /// How many there are in all.
    pub count: i64,
}

/// The calls that were booked when the window's sum was above the limit already, or that took it there; the `most` largest of them.
pub async fn over(conn: &mut PgConnection, budget: &Budget, now: DateTime<Utc>, most: i64) -> Result<Over> {
    let (since, until, day) = bounds(budget, now);
    let Scope { team, environment, feature, customer, key, job, deployment, provider, tags } = &budget.scope;
    let is_tokens = budget.unit() == Unit::Tokens;
    let rows = query!(
        r#"with booked as (
               select attempt_id, request_id, team, deployment, recorded_at, reserved,
                      case when $13::boolean
                           then coalesce(prompt_total, 0) + coalesce(output_text, 0) + coalesce(output_reasoning, 0)
                                + coalesce(output_audio, 0)
                           else coalesce(contracted_cost, 0) end as amount
               from ledger
               where usage_date >= $1 and reserved_at >= $2 and reserved_at < $3
                 and ($4::text is null or team = $4) and ($5::text is null or environment = $5)
                 and ($6::text is null or feature = $6) and ($7::text is null or customer = $7)
                 and ($8::text is null or key_id = $8) and ($9::bigint is null or job_id = $9)
                 and ($10::text is null or deployment = $10) and ($11::text is null or provider = $11)
                 and ($12::jsonb = '{}' or tags_json::jsonb @> $12)
           ), running as (
               select booked.*, sum(amount) over (order by recorded_at, attempt_id) as total from booked
           )
           select attempt_id as "attempt_id!", request_id as "request_id!", team as "team!", deployment as "deployment!",
                  recorded_at as "recorded_at!", reserved, amount::text as "amount!", count(*) over () as "count!"
           from running where total > $14::text::numeric and amount > 0
           order by amount desc, recorded_at, attempt_id limit $15"#,
        day,
        since,
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
        is_tokens,
        budget.cap().to_string(),
        most,
    )
    .fetch_all(conn)
    .await?;
    let count = rows.first().map_or(0, |row| row.count);
    let calls: Result<Vec<OverCall>> = rows
        .into_iter()
        .map(|row| {
            Ok(OverCall {
                attempt_id: row.attempt_id,
                request_id: row.request_id,
                team: row.team,
                deployment: row.deployment,
                recorded_at: row.recorded_at,
                amount: amount(&row.amount)?,
                held: row.reserved.filter(|_| !is_tokens).map(i128::from),
            })
        })
        .collect();
    Ok(Over { calls: calls?, count })
}
