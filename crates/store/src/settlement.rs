//! Results, and the tally of a job, in the transaction that ends the lease. Never touches `flow` or `share`.

use std::collections::BTreeMap;

use domain::progress::{LATELY_S, LONGER_S};
use sqlx::{PgConnection, PgPool, Postgres, Transaction, query};

use crate::{Result, copy::Rows};

/// A transaction that settles. It locks leases, so its statements end soon. When its process is cut off in the middle of a COPY, the
/// server waits for the rest of it until keepalives tell it that nobody is there.
pub async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>> {
    pool.begin_with("begin; set local statement_timeout = '10s'").await
}

/// A request's final result.
#[derive(Debug, Clone)]
pub struct NewResult {
    pub job_id: i64,
    pub line: i32,
    pub custom_id: String,
    pub ok: bool,
    pub attempts: i32,
    pub status_code: Option<i32>,
    pub request_id: Option<String>,
    pub deployment: Option<String>,
    pub endpoint: i16,
    /// The provider's JSON, free of NUL.
    pub body: Option<bytes::Bytes>,
    pub vectors: Option<bytes::Bytes>,
    pub dims: Option<i32>,
    pub base64: bool,
    pub error_class: Option<&'static str>,
    pub error_message: Option<String>,
}

const COPY: &str =
    "copy result (job_id, line, custom_id, ok, attempts, status_code, request_id, deployment, endpoint, body,
    vectors, dims, base64, error_class, error_message) from stdin (format binary)";

pub async fn insert_results(conn: &mut PgConnection, results: &[&NewResult]) -> Result<()> {
    let payload =
        |r: &&NewResult| r.body.as_ref().map_or(0, bytes::Bytes::len) + r.vectors.as_ref().map_or(0, bytes::Bytes::len);
    let mut rows = Rows::new(15, results.iter().map(|r| 256 + payload(r)).sum());
    for r in results {
        rows.row()
            .i64(r.job_id)
            .i32(r.line)
            .text(&r.custom_id)
            .bool(r.ok)
            .i32(r.attempts)
            .some(r.status_code, |to, v| to.i32(v))
            .some(r.request_id.as_deref(), |to, v| to.text(v))
            .some(r.deployment.as_deref(), |to, v| to.text(v))
            .i16(r.endpoint)
            .some(r.body.as_deref(), |to, v| to.bytes(v))
            .some(r.vectors.as_deref(), |to, v| to.bytes(v))
            .some(r.dims, |to, v| to.i32(v))
            .bool(r.base64)
            .some(r.error_class, |to, v| to.text(v))
            .some(r.error_message.as_deref(), |to, v| to.text(v));
    }
    crate::copy::send(conn, COPY, &mut rows).await?;
    Ok(())
}

/// What a transaction adds to a job's counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub succeeded: i64,
    pub failed: i64,
    pub attempts: i64,
    pub unpriced: i64,
    pub cost_pico: i128,
}

/// Adds to the worker's own rows, in the order of job ids, so that two settlers cannot deadlock.
pub async fn add_tallies(conn: &mut PgConnection, worker_id: i64, tallies: &BTreeMap<i64, Tally>) -> Result<()> {
    if tallies.is_empty() {
        return Ok(());
    }
    let jobs: Vec<i64> = tallies.keys().copied().collect();
    let column = |get: fn(&Tally) -> i64| tallies.values().map(get).collect::<Vec<i64>>();
    // numeric has no type of its own here: it travels as text, exactly.
    let costs: Vec<String> = tallies.values().map(|t| t.cost_pico.to_string()).collect();
    query!(
        "insert into job_tally as t (job_id, worker_id, succeeded, failed, attempts, unpriced, cost_pico, lately, longer)
         select n.job_id, $1, n.succeeded, n.failed, n.attempts, n.unpriced, n.cost::numeric, n.succeeded + n.failed,
                n.succeeded + n.failed
         from unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[])
             as n(job_id, succeeded, failed, attempts, unpriced, cost)
         order by n.job_id
         on conflict (job_id, worker_id) do update set
             succeeded = t.succeeded + excluded.succeeded, failed = t.failed + excluded.failed,
             attempts = t.attempts + excluded.attempts, unpriced = t.unpriced + excluded.unpriced,
             cost_pico = t.cost_pico + excluded.cost_pico,
             lately = tollway_faded(t.lately, t.faded_at, $8) + excluded.lately,
             longer = tollway_faded(t.longer, t.faded_at, $9) + excluded.longer, faded_at = now()",
        worker_id,
        &jobs,
        &column(|t| t.succeeded),
        &column(|t| t.failed),
        &column(|t| t.attempts),
        &column(|t| t.unpriced),
        &costs,
        LATELY_S,
        LONGER_S,
    )
    .execute(conn)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::Connection;

    #[sqlx::test(migrations = "../../migrations")]
    async fn what_was_counted_fades_with_the_seconds_since(pool: PgPool) -> Result<()> {
        let mut conn = pool.acquire().await?;
        let ended = |succeeded, failed| BTreeMap::from([(7, Tally { succeeded, failed, ..Tally::default() })]);
        let mut after = async |idle: &str, tally| -> Result<(f64, f64)> {
            // In a transaction time stands still.
            let mut tx = conn.begin().await?;
            let earlier = "update job_tally set faded_at = now() - $1::text::interval";
            sqlx::query(earlier).bind(idle).execute(&mut *tx).await?;
            add_tallies(&mut tx, 1, &tally).await?;
            let counted = sqlx::query_as("select lately, longer from job_tally").fetch_one(&mut *tx).await?;
            tx.commit().await?;
            Ok(counted)
        };
        assert_eq!(after("0 s", ended(90, 10)).await?, (100.0, 100.0));
        let (lately, longer) = after("10 s", ended(5, 0)).await?;
        // 100 e⁻¹ and 100 e^(−1/6), and 5.
        assert!((lately - 41.788).abs() < 0.001 && (longer - 89.648).abs() < 0.001, "{lately} {longer}");
        let (lately, longer) = after("9 years", ended(0, 1)).await?;
        assert!((lately - 1.0).abs() < 1e-9 && (longer - 1.0).abs() < 1e-9, "{lately} {longer}");
        Ok(())
    }
}
