//! How the row of a call ends that began as one of unknown outcome.

use std::time::Duration;

use admission::{catalog::ActiveCatalog, clock::Clock, worst_case};
use chrono::{DateTime, Utc};
use domain::{AttemptStatus, LedgerRow, Usage, ledger::PriceStatus};

use super::{
    Attempt, Ended, Subject, charge_of,
    row::{put_charge, put_usage, queue_ms},
    storable, usage_of,
};

/// Turns the row of an attempt whose end nobody knew, [`super::unknown_row`], into that of one that ended.
pub fn finish(
    row: LedgerRow,
    clock: &Clock,
    catalog: &ActiveCatalog,
    (subject, attempt): (&Subject, &Attempt),
    ended: &Ended<'_>,
    is_final: bool,
) -> LedgerRow {
    let requested_at = clock.at(ended.started);
    let completed_at = clock.at(ended.ended);
    let mut row = LedgerRow {
        requested_at,
        completed_at,
        recorded_at: completed_at,
        usage_date: completed_at.date_naive(),
        queue_ms: Some(queue_ms(subject, requested_at)),
        ..row
    };
    let (usage, billable) = usage_of(subject, attempt, ended);
    let charge = charge_of(catalog, attempt, ended, usage.as_ref(), billable, requested_at);
    if let Some(usage) = &usage {
        put_usage(&mut row, usage);
    }
    put_charge(&mut row, &charge);
    row.is_final = is_final;
    row.billable = billable;
    row.provider_request_id = ended.provider_request_id.map(storable);
    if let Some(model) = ended.model {
        row.model_billed = storable(model);
    }
    row.service_tier = ended.service_tier.map(storable);
    row.ttft_ms = ended.ttft.map(|ttft| ttft.as_millis() as i64);
    row.latency_ms = Some(ended.ended.saturating_duration_since(ended.started).as_millis() as i64);
    row.http_status = ended.http_status.map(i32::from);
    row.status =
        if ended.error.is_none() { AttemptStatus::Succeeded } else { AttemptStatus::Failed }.as_str().to_owned();
    row.error_class = ended.error.map(|class| class.as_str().to_owned());
    row
}

/// Turns the row of an attempt whose end nobody knew into that of one that was hung up on after this time. It costs what a model
/// can have made in that time, flagged as an estimate, and never more than was reserved.
pub fn finish_hung_up(row: LedgerRow, (subject, attempt): (&Subject, &Attempt), hung_up: &HungUp) -> LedgerRow {
    let usage = Usage::estimated(subject.est_in, made_within(subject, attempt, hung_up));
    let charge = worst_case::price(&attempt.deployment, attempt.reserved_at)
        .and_then(|price| pricing::charge(&price, &usage).ok());
    let mut row = LedgerRow {
        completed_at: hung_up.at,
        recorded_at: hung_up.at,
        usage_date: hung_up.at.date_naive(),
        latency_ms: Some(hung_up.after.as_millis() as i64),
        status: AttemptStatus::Cancelled.as_str().to_owned(),
        error_class: None,
        ..row
    };
    put_usage(&mut row, &usage);
    if let Some(charge) = charge.filter(|charge| charge.contracted_cost <= attempt.reserved) {
        put_charge(&mut row, &charge);
        row.price_status = PriceStatus::Estimated.as_str().to_owned();
    }
    row
}

/// A call that Tollway cut.
#[derive(Debug, Clone, Copy)]
pub struct HungUp {
    pub at: DateTime<Utc>,
    /// Since the call began.
    pub after: Duration,
}

/// No model makes more tokens in a second.
const FASTEST: u64 = 1_000;

fn made_within(subject: &Subject, attempt: &Attempt, hung_up: &HungUp) -> i64 {
    let most = worst_case::output(&attempt.deployment, attempt.endpoint, subject.max_out);
    let made = hung_up.after.as_millis().saturating_mul(FASTEST.into()) / 1_000;
    i64::try_from(made).unwrap_or(i64::MAX).min(most)
}
