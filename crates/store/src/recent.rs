//! What calls were like of late: by this, quotes say what is to be expected.

use sqlx::{PgConnection, query_as};

use crate::Result;

/// Successful calls of one deployment for one model name, the team's own apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentCalls {
    pub deployment: String,
    /// As callers write it.
    pub model: String,
    pub is_own: bool,
    pub calls: i64,
    /// Means, rounded.
    pub output_tokens: i64,
    pub latency_ms: i64,
}

/// Among the latest `most` calls of the last seven days, whoever made them.
pub async fn calls(conn: &mut PgConnection, team: &str, most: i64) -> Result<Vec<RecentCalls>> {
    query_as!(
        RecentCalls,
        r#"select deployment as "deployment!", model_requested as "model!", team = $1 as "is_own!", count(*) as "calls!",
                  round(avg(output_tokens))::bigint as "output_tokens!", round(avg(latency_ms))::bigint as "latency_ms!"
           from (
               -- By the primary key from its end: ids ascend with time.
               select context_id, latency_ms, coalesce(output_text, 0) + coalesce(output_reasoning, 0) as output_tokens
               from ledger_entry
               where usage_date > (now() at time zone 'UTC')::date - 7
               order by usage_date desc, attempt_id desc
               limit $2
           ) latest
           join ledger_context using (context_id)
           where status = 'succeeded' and record_kind = 'original' and latency_ms is not null
           group by deployment, model_requested, team = $1"#,
        team,
        most,
    )
    .fetch_all(conn)
    .await
}
