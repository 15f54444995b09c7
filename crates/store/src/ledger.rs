//! The ledger: one row per attempt, in the transaction that stores the result. What rows have in common is kept once.

mod context;
mod correct;

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
};

use chrono::{DateTime, NaiveDate};
use domain::LedgerRow;
use sqlx::{PgConnection, query, query_as, query_scalar, types::Json};
use uuid::Uuid;

pub use correct::{correction_id, corrections, lock_correction, row};

use crate::{
    Result,
    copy::{Row, Rows},
};

const COLUMNS: i16 = 40;
const COPY: &str = "copy ledger_entry (requested_at, completed_at, reserved_at, batch_id, usage_date, attempt_no, is_final, attempt_id,
    context_id, corrects_attempt_id, job_id, input_uncached, cache_read, cache_write_5m, cache_write_1h, input_audio, input_image,
    output_text, output_reasoning, output_audio, prompt_total, queue_ms, ttft_ms, latency_ms, reserved, cost_input, cost_cache_read,
    cost_cache_write, cost_output, cost_other, list_cost, contracted_cost, cost_if_uncached, cost_if_not_batch, price_status,
    request_id, custom_id, provider_request_id, customer, tags_json) from stdin (format binary)";

/// Writes rows, and the batch by which they go to the lake. `recorded_at` is set by the database.
/// Fails on a second row for the same attempt: the caller must hold the lease or the intent that stands for it.
///
/// Gives the revision of the budgets that the rows are to be booked under, which stays in force until the transaction ends; `None`
/// when there are no rows.
pub async fn insert<R: Borrow<LedgerRow>>(conn: &mut PgConnection, ledger: &[R]) -> Result<Option<i64>> {
    if ledger.is_empty() {
        return Ok(None);
    }
    let mut days = BTreeMap::<_, i32>::new();
    for row in ledger.iter().map(Borrow::borrow) {
        *days.entry(row.usage_date).or_default() += 1;
    }
    let (dates, counts): (Vec<_>, Vec<_>) = days.into_iter().unzip();
    let (contexts, context_of) = context::of_rows(ledger.iter().map(Borrow::borrow));
    // One statement for all that is not a row: each settlement pays for every round trip.
    let batch = query!(
        r#"with batch as materialized (select nextval('ledger_batch_seq') as batch_id),
                written as (
                    insert into ledger_batch (batch_id, usage_date, rows)
                    select batch.batch_id, d.usage_date, d.rows
                    from batch, unnest($1::date[], $2::integer[]) as d(usage_date, rows)
                )
           select batch_id as "batch_id!", tollway_ledger_contexts($3) as "context_ids!",
                  tollway_budget_revision() as "revision!"
           from batch"#,
        &dates,
        &counts,
        Json(&contexts) as _,
    )
    .fetch_one(&mut *conn)
    .await?;
    let mut rows = Rows::new(COLUMNS, ledger.len() * 600);
    for (row, context) in ledger.iter().map(Borrow::borrow).zip(context_of) {
        put(&mut rows.row(), row, batch.context_ids[context], batch.batch_id);
    }
    crate::copy::send(conn, COPY, &mut rows).await?;
    correct::note(conn, ledger.iter().map(Borrow::borrow)).await?;
    Ok(Some(batch.revision))
}

#[rustfmt::skip]
fn put(to: &mut Row<'_>, r: &LedgerRow, context_id: Uuid, batch_id: i64) {
    fn text(to: &mut Row<'_>, v: &Option<String>) {
        to.some(v.as_deref(), |to, v| to.text(v));
    }
    fn big(to: &mut Row<'_>, v: Option<i64>) {
        to.some(v, |to, v| to.i64(v));
    }
    to.time(r.requested_at).time(r.completed_at).time(r.reserved_at).i64(batch_id).date(r.usage_date);
    to.i32(r.attempt_no).bool(r.is_final).uuid(r.attempt_id).uuid(context_id);
    to.some(r.corrects_attempt_id, |to, v| to.uuid(v));
    for v in [r.job_id, r.input_uncached, r.cache_read, r.cache_write_5m, r.cache_write_1h, r.input_audio, r.input_image,
              r.output_text, r.output_reasoning, r.output_audio, r.prompt_total, r.queue_ms, r.ttft_ms, r.latency_ms,
              r.reserved, r.cost_input, r.cost_cache_read, r.cost_cache_write, r.cost_output, r.cost_other, r.list_cost,
              r.contracted_cost, r.cost_if_uncached, r.cost_if_not_batch] { big(to, v); }
    to.text(&r.price_status).text(&r.request_id);
    for v in [&r.custom_id, &r.provider_request_id, &r.customer, &r.tags_json] { text(to, v); }
}

/// The days on which attempts with these ids can have ended: an id holds the time of its making, a call ends within a day.
fn possible_days(attempt_ids: &[Uuid]) -> Vec<NaiveDate> {
    let mut days = BTreeSet::new();
    for id in attempt_ids {
        let Some((seconds, _)) = id.get_timestamp().map(|t| t.to_unix()) else { continue };
        let Some(made) = DateTime::from_timestamp(seconds as i64, 0) else { continue };
        let day = made.date_naive();
        days.extend([day.pred_opt(), Some(day), day.succ_opt()].into_iter().flatten());
    }
    days.into_iter().collect()
}

/// The id of the row that corrects an attempt: its own, marked as a version 8 UUID. One attempt has one correction at most.
pub fn adjustment_id(attempt_id: Uuid) -> Uuid {
    let mut bytes = *attempt_id.as_bytes();
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    Uuid::from_bytes(bytes)
}

/// Which of these attempts have a row already: how a writer whose COMMIT was not acknowledged finds its own rows.
pub async fn known(conn: &mut PgConnection, attempt_ids: &[Uuid]) -> Result<Vec<Uuid>> {
    query_scalar!(
        "select attempt_id from ledger_entry where usage_date = any($1) and attempt_id = any($2)",
        &possible_days(attempt_ids),
        attempt_ids
    )
    .fetch_all(conn)
    .await
}

/// What a fenced-off late answer corrects: the unknown row's charge, to be replaced by the real one.
#[derive(Debug, Clone)]
pub struct UnknownRow {
    pub attempt_id: Uuid,
    pub contracted_cost: Option<i64>,
    pub list_cost: Option<i64>,
    pub input_uncached: Option<i64>,
    pub output_text: Option<i64>,
}

/// The unknown rows among these attempts that were not corrected yet.
pub async fn unknown_of(conn: &mut PgConnection, attempt_ids: &[Uuid]) -> Result<Vec<UnknownRow>> {
    let days = possible_days(attempt_ids);
    let rows = query_as!(
        UnknownRow,
        "select attempt_id, contracted_cost, list_cost, input_uncached, output_text
         from ledger_entry join ledger_context using (context_id)
         where usage_date = any($1) and attempt_id = any($2) and status = 'unknown_outcome'",
        &days,
        attempt_ids
    )
    .fetch_all(&mut *conn)
    .await?;
    let corrections: Vec<Uuid> = rows.iter().map(|row| adjustment_id(row.attempt_id)).collect();
    let corrected: Vec<Uuid> = query_scalar!(
        // A correction ends later than what it corrects, at most by the time a worker can stall.
        "select attempt_id from ledger_entry where usage_date >= $1 and attempt_id = any($2)",
        days.first().copied().unwrap_or_default(),
        &corrections
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().filter(|row| !corrected.contains(&adjustment_id(row.attempt_id))).collect())
}

/// The final row of a synchronous call, as JSON of the ledger's columns.
pub async fn call(conn: &mut PgConnection, request_id: &str, team: Option<&str>) -> Result<Vec<serde_json::Value>> {
    Ok(query!(
        r#"select to_jsonb(l) - 'batch_id' as "row!" from ledger l
           where request_id = $1 and job_id is null and ($2::text is null or team = $2)
           order by attempt_no"#,
        request_id,
        team,
    )
    .fetch_all(conn)
    .await?
    .into_iter()
    .map(|r| r.row)
    .collect())
}

#[cfg(test)]
mod tests;
