//! Admission control on the database of one test, in which nothing runs by itself.

use std::sync::Arc;

use chrono::Utc;
use domain::{Catalog, LedgerRow};
use serde_json::json;
use store::{PgPool, Pools};

use crate::{
    AdmissionControl, WorkNotifier,
    catalog::{ActiveCatalog, CatalogWatch},
    clock::Clock,
};

const WORKER: i64 = 77;

/// With a team `t`, whose id is 1.
pub async fn control(pool: &PgPool) -> Arc<AdmissionControl> {
    sqlx::query("insert into team (name, weight) values ('t', 3)").execute(pool).await.unwrap();
    replica(pool, WORKER)
}

/// One of several on the same database; it has no place among the workers yet.
pub fn replica(pool: &PgPool, worker_id: i64) -> Arc<AdmissionControl> {
    let pools = Pools { api: pool.clone(), work: pool.clone(), intents: pool.clone() };
    let catalog = CatalogWatch::new(ActiveCatalog::build(1, Catalog::default()).unwrap());
    Arc::new(AdmissionControl::new(pools, worker_id, Clock::new(Utc::now()), catalog, WorkNotifier::default()))
}

/// The row of a call of team `t` that ended now and used nothing yet.
pub fn call_row(worker_id: i64) -> LedgerRow {
    let (now, id) = (Utc::now(), uuid::Uuid::now_v7());
    serde_json::from_value(json!({
        "attempt_id": id, "request_id": id.to_string(), "attempt_no": 1, "attempt_reason": "primary", "is_final": true,
        "record_kind": "original", "requested_at": now, "completed_at": now, "recorded_at": now, "usage_date": now.date_naive(),
        "reserved_at": now, "team": "t", "environment": "", "feature": "", "key_id": "k", "worker_id": worker_id,
        "provider": "openai", "deployment": "d", "model_requested": "r", "model_billed": "m", "processing": "sync",
        "lane": "prod", "status": "succeeded", "billable": true, "cache_hit": false, "price_status": "unpriced",
    }))
    .unwrap()
}
