//! The ledger: append-only, one row per attempt. It has no prompt and no answer in it.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use crate::{attempt::words, ids::AttemptId};

words! {
    RecordKind { Original = "original", Reversal = "reversal", Adjustment = "adjustment" }
}

words! {
    PriceStatus { Priced = "priced", Unpriced = "unpriced", Estimated = "estimated" }
}

/// One row, columns as in the lake. Money is pico-USD in an i64, null when unpriced; tokens null when not reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerRow {
    // identity
    pub attempt_id: AttemptId,
    pub request_id: String,
    pub job_id: Option<i64>,
    pub custom_id: Option<String>,
    pub provider_request_id: Option<String>,
    pub attempt_no: i32,
    pub attempt_reason: String,
    /// The deployment that failed before this one was tried.
    pub fallback_from: Option<String>,
    pub is_final: bool,
    pub record_kind: String,
    pub corrects_attempt_id: Option<AttemptId>,
    // time
    pub requested_at: DateTime<Utc>,
    pub completed_at: DateTime<Utc>,
    /// Posting time, by the database's clock; set by the insert.
    pub recorded_at: DateTime<Utc>,
    /// UTC date of `completed_at`; fixed once.
    pub usage_date: NaiveDate,
    pub reserved_at: DateTime<Utc>,
    // attribution
    pub team: String,
    pub environment: String,
    pub feature: String,
    pub customer: Option<String>,
    pub cost_center: Option<String>,
    pub key_id: Option<String>,
    pub tags_json: Option<String>,
    pub worker_id: i64,
    // provider
    pub provider: String,
    pub deployment: String,
    pub billing_account: Option<String>,
    pub provider_project: Option<String>,
    pub region: Option<String>,
    /// The route's name as the caller wrote it.
    pub model_requested: String,
    /// The model the provider charged for.
    pub model_billed: String,
    pub service_tier: Option<String>,
    pub processing: String,
    pub lane: String,
    // tokens
    pub input_uncached: Option<i64>,
    pub cache_read: Option<i64>,
    pub cache_write_5m: Option<i64>,
    pub cache_write_1h: Option<i64>,
    pub input_audio: Option<i64>,
    pub input_image: Option<i64>,
    pub output_text: Option<i64>,
    pub output_reasoning: Option<i64>,
    pub output_audio: Option<i64>,
    pub prompt_total: Option<i64>,
    pub usage_source: Option<String>,
    // performance
    /// From submission to the start of this call.
    pub queue_ms: Option<i64>,
    pub ttft_ms: Option<i64>,
    pub latency_ms: Option<i64>,
    pub status: String,
    pub http_status: Option<i32>,
    pub error_class: Option<String>,
    pub billable: bool,
    pub cache_hit: bool,
    // cost, pico-USD
    pub reserved: Option<i64>,
    pub cost_input: Option<i64>,
    pub cost_cache_read: Option<i64>,
    pub cost_cache_write: Option<i64>,
    pub cost_output: Option<i64>,
    pub cost_other: Option<i64>,
    pub list_cost: Option<i64>,
    pub contracted_cost: Option<i64>,
    pub cost_if_uncached: Option<i64>,
    pub cost_if_not_batch: Option<i64>,
    pub price_version: Option<String>,
    pub price_status: String,
}

impl LedgerRow {
    /// What it used of limits in tokens; 0 where the provider said nothing.
    pub fn tokens(&self) -> i64 {
        [self.prompt_total, self.output_text, self.output_reasoning].into_iter().flatten().sum()
    }
}
