//! Rows to export, and a database that has them.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use domain::LedgerRow;
use lake::LakeStore;
use sqlx::PgPool;
use tempfile::TempDir;
use uuid::Uuid;

pub fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

pub fn noon(text: &str) -> DateTime<Utc> {
    day(text).and_hms_opt(12, 0, 0).unwrap().and_utc()
}

/// The n-th row of a day. Different numbers give different attempts, teams, models, times and costs; some are unpriced.
pub fn row(n: u64, usage_date: NaiveDate) -> LedgerRow {
    let spread = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let at = usage_date.and_hms_opt(0, 0, 0).unwrap().and_utc() + TimeDelta::microseconds((spread >> 28) as i64);
    let unpriced = n % 11 == 10;
    let cost = (!unpriced).then_some((spread >> 40) as i64 + 1);
    LedgerRow {
        attempt_id: Uuid::from_u64_pair(usage_date.to_epoch_days() as u64 ^ spread, n),
        request_id: format!("req_0000000000001_{n}"),
        job_id: (!n.is_multiple_of(3)).then_some(7_528_000_000_000_000_000 + n as i64),
        custom_id: Some(format!("doc-{n}")),
        provider_request_id: n.is_multiple_of(2).then(|| format!("chatcmpl-{spread:x}")),
        attempt_no: 1 + (n % 3) as i32,
        attempt_reason: "primary".into(),
        fallback_from: None,
        is_final: n % 5 != 4,
        record_kind: "original".into(),
        corrects_attempt_id: None,
        requested_at: at - TimeDelta::milliseconds(20),
        completed_at: at,
        recorded_at: at,
        usage_date,
        reserved_at: at - TimeDelta::seconds(1),
        team: ["search", "chat", "søk"][(n % 3) as usize].into(),
        environment: "prod".into(),
        feature: "reindex".into(),
        customer: n.is_multiple_of(4).then(|| "acme, \"Ltd\"".into()),
        cost_center: None,
        key_id: Some("abcdefghijkl".into()),
        tags_json: Some(r#"{"sprint":"42"}"#.into()),
        worker_id: 4 + (n % 2) as i64,
        provider: "openai".into(),
        deployment: "openai-small".into(),
        billing_account: None,
        provider_project: None,
        region: None,
        model_requested: "small".into(),
        model_billed: ["text-embedding-3-small", "text-embedding-3-large"][(n % 2) as usize].into(),
        service_tier: None,
        processing: "sync".into(),
        lane: "bulk".into(),
        input_uncached: Some(n as i64),
        cache_read: n.is_multiple_of(7).then_some(0),
        cache_write_5m: None,
        cache_write_1h: None,
        input_audio: None,
        input_image: None,
        output_text: Some(2 * n as i64),
        output_reasoning: None,
        output_audio: None,
        prompt_total: Some(n as i64),
        usage_source: Some("provider".into()),
        queue_ms: Some(1000),
        ttft_ms: None,
        latency_ms: Some(20),
        status: if n % 5 == 4 { "failed".into() } else { "succeeded".into() },
        http_status: Some(if n % 5 == 4 { 529 } else { 200 }),
        error_class: (n % 5 == 4).then(|| "overloaded".into()),
        billable: true,
        cache_hit: false,
        reserved: Some(1_000_000),
        cost_input: cost,
        cost_cache_read: None,
        cost_cache_write: None,
        cost_output: None,
        cost_other: None,
        list_cost: cost,
        contracted_cost: cost,
        cost_if_uncached: cost,
        cost_if_not_batch: cost,
        price_version: Some("v1".into()),
        price_status: if unpriced { "unpriced".into() } else { "priced".into() },
    }
}

/// Inserts rows in one transaction, as a worker's settling does: one batch for each day among them.
pub async fn post(pool: &PgPool, rows: &[LedgerRow]) {
    for row in rows {
        sqlx::query("select tollway_make_partitions($1, 1)").bind(row.usage_date).execute(pool).await.unwrap();
    }
    let mut tx = pool.begin().await.unwrap();
    store::ledger::insert(&mut tx, rows).await.unwrap();
    tx.commit().await.unwrap();
}

/// Inserts rows `from..to` of a day, in batches of at most 500.
pub async fn post_range(pool: &PgPool, usage_date: NaiveDate, from: u64, to: u64) {
    sqlx::query("select tollway_make_partitions($1, 1)").bind(usage_date).execute(pool).await.unwrap();
    let rows: Vec<LedgerRow> = (from..to).map(|n| row(n, usage_date)).collect();
    for batch in rows.chunks(500) {
        let mut tx = pool.begin().await.unwrap();
        store::ledger::insert(&mut tx, batch).await.unwrap();
        tx.commit().await.unwrap();
    }
}

/// A lake in a folder that goes away.
pub fn folder() -> (TempDir, LakeStore) {
    let folder = tempfile::tempdir().unwrap();
    let lake = LakeStore::open(folder.path().to_str().unwrap()).unwrap();
    (folder, lake)
}

/// Everything is exported, and equal.
pub async fn assert_equal(pool: &PgPool, lake: &LakeStore, rows: u64) {
    let found = lake::verify(pool, lake).await.unwrap();
    assert_eq!(found.differences, []);
    assert_eq!((found.ledger, found.waiting), (found.lake, 0));
    assert_eq!(found.lake.rows, rows);
}
