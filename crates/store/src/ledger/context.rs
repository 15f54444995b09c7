//! What the calls of a settlement have in common: most of them differ in ids, times, tokens and cost alone.

use std::collections::{HashMap, hash_map::Entry};

use domain::LedgerRow;
use serde::Serialize;

/// The columns of `ledger_context`, by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub(super) struct Context<'a> {
    status: &'a str,
    http_status: Option<i32>,
    error_class: Option<&'a str>,
    deployment: &'a str,
    feature: &'a str,
    team: &'a str,
    environment: &'a str,
    cost_center: Option<&'a str>,
    key_id: Option<&'a str>,
    lane: &'a str,
    model_requested: &'a str,
    model_billed: &'a str,
    attempt_reason: &'a str,
    fallback_from: Option<&'a str>,
    record_kind: &'a str,
    worker_id: i64,
    provider: &'a str,
    billing_account: Option<&'a str>,
    provider_project: Option<&'a str>,
    region: Option<&'a str>,
    service_tier: Option<&'a str>,
    processing: &'a str,
    usage_source: Option<&'a str>,
    billable: bool,
    cache_hit: bool,
    price_version: Option<&'a str>,
}

impl<'a> From<&'a LedgerRow> for Context<'a> {
    fn from(row: &'a LedgerRow) -> Self {
        Self {
            status: &row.status,
            http_status: row.http_status,
            error_class: row.error_class.as_deref(),
            deployment: &row.deployment,
            feature: &row.feature,
            team: &row.team,
            environment: &row.environment,
            cost_center: row.cost_center.as_deref(),
            key_id: row.key_id.as_deref(),
            lane: &row.lane,
            model_requested: &row.model_requested,
            model_billed: &row.model_billed,
            attempt_reason: &row.attempt_reason,
            fallback_from: row.fallback_from.as_deref(),
            record_kind: &row.record_kind,
            worker_id: row.worker_id,
            provider: &row.provider,
            billing_account: row.billing_account.as_deref(),
            provider_project: row.provider_project.as_deref(),
            region: row.region.as_deref(),
            service_tier: row.service_tier.as_deref(),
            processing: &row.processing,
            usage_source: row.usage_source.as_deref(),
            billable: row.billable,
            cache_hit: row.cache_hit,
            price_version: row.price_version.as_deref(),
        }
    }
}

/// Each context once, and for each row the place of its own among them.
pub(super) fn of_rows<'a>(rows: impl Iterator<Item = &'a LedgerRow>) -> (Vec<Context<'a>>, Vec<usize>) {
    let mut contexts = Vec::new();
    let mut places = HashMap::new();
    let mut last = 0;
    let of_row = rows
        .map(|row| {
            let context = Context::from(row);
            // Rows come in runs of equals: comparing is cheaper than hashing.
            if contexts.get(last) != Some(&context) {
                last = match places.entry(context) {
                    Entry::Occupied(place) => *place.get(),
                    Entry::Vacant(place) => {
                        contexts.push(context);
                        *place.insert(contexts.len() - 1)
                    }
                };
            }
            last
        })
        .collect();
    (contexts, of_row)
}
