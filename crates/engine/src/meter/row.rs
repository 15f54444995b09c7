//! The ledger row of an attempt, before anything is known of its end.

use chrono::{DateTime, Utc};
use domain::{
    AttemptId, AttemptReason, AttemptStatus, ErrorClass, LedgerRow, Money, Usage,
    ledger::{PriceStatus, RecordKind},
};
use pricing::Charge;

use super::{Attempt, Subject};

/// The row of an attempt of unknown outcome, charged at its reservation.
pub fn unknown_row(
    worker_id: i64,
    subject: &Subject,
    attempt: &Attempt,
    requested_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> LedgerRow {
    let mut row = begun(worker_id, subject, attempt, requested_at, now);
    put_charge(&mut row, &attempt.reserved.map_or_else(Charge::unpriced, Charge::held));
    row.reserved = attempt.reserved.map(Money::pico);
    row.status = AttemptStatus::UnknownOutcome.as_str().to_owned();
    row.error_class = Some(ErrorClass::Unknown.as_str().to_owned());
    row.billable = true;
    row
}

/// The same for a deployment that is no longer declared: it has no price, and no provider's name but its own.
pub fn undeclared_row(
    worker_id: i64,
    subject: &Subject,
    (attempt_id, attempt_no): (AttemptId, i32),
    deployment: &str,
    requested_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> LedgerRow {
    let at = At {
        id: attempt_id,
        no: attempt_no,
        reason: AttemptReason::Retry,
        fallback_from: None,
        reserved_at: requested_at,
    };
    let to = To {
        provider: deployment,
        deployment,
        model: &subject.model,
        billing_account: None,
        provider_project: None,
        region: None,
    };
    let mut row = blank(worker_id, subject, &at, &to, requested_at, now);
    row.status = AttemptStatus::UnknownOutcome.as_str().to_owned();
    row.error_class = Some(ErrorClass::Unknown.as_str().to_owned());
    row.billable = true;
    row
}

pub(super) fn put_usage(row: &mut LedgerRow, usage: &Usage) {
    row.input_uncached = usage.input_uncached;
    row.cache_read = usage.cache_read;
    row.cache_write_5m = usage.cache_write_5m;
    row.cache_write_1h = usage.cache_write_1h;
    row.input_audio = usage.input_audio;
    row.input_image = usage.input_image;
    row.output_text = usage.output_text;
    row.output_reasoning = usage.output_reasoning;
    row.output_audio = usage.output_audio;
    row.prompt_total = usage.prompt_total();
    row.usage_source = Some(usage.source.as_str().to_owned());
}

pub(super) fn put_charge(row: &mut LedgerRow, charge: &Charge) {
    let pico = |money: Option<Money>| money.map(Money::pico);
    row.cost_input = pico(charge.input);
    row.cost_cache_read = pico(charge.cache_read);
    row.cost_cache_write = pico(charge.cache_write);
    row.cost_output = pico(charge.output);
    row.cost_other = pico(charge.other);
    row.list_cost = pico(charge.list_cost);
    row.contracted_cost = pico(charge.contracted_cost);
    row.cost_if_uncached = pico(charge.cost_if_uncached);
    row.cost_if_not_batch = pico(charge.cost_if_not_batch);
    row.price_version = charge.price_version.as_deref().map(str::to_owned);
    row.price_status = charge.status.as_str().to_owned();
}

pub(super) fn queue_ms(subject: &Subject, requested_at: DateTime<Utc>) -> i64 {
    (requested_at - subject.submitted_at).num_milliseconds().max(0)
}

/// Which attempt a row is of.
struct At<'a> {
    id: AttemptId,
    no: i32,
    reason: AttemptReason,
    fallback_from: Option<&'a str>,
    reserved_at: DateTime<Utc>,
}

/// Where it went.
struct To<'a> {
    provider: &'a str,
    deployment: &'a str,
    model: &'a str,
    billing_account: Option<&'a str>,
    provider_project: Option<&'a str>,
    region: Option<&'a str>,
}

fn begun(
    worker_id: i64,
    subject: &Subject,
    attempt: &Attempt,
    requested_at: DateTime<Utc>,
    completed_at: DateTime<Utc>,
) -> LedgerRow {
    let spec = &attempt.deployment.spec;
    let at = At {
        id: attempt.id,
        no: attempt.no,
        reason: attempt.reason,
        fallback_from: attempt.fallback_from.as_deref(),
        reserved_at: attempt.reserved_at,
    };
    let to = To {
        provider: spec.provider_name(),
        deployment: &attempt.deployment.name,
        model: &spec.model,
        billing_account: spec.billing_account.as_deref(),
        provider_project: spec.provider_project.as_deref(),
        region: spec.region.as_deref(),
    };
    blank(worker_id, subject, &at, &to, requested_at, completed_at)
}

/// Everything that is known before the call ends.
fn blank(
    worker_id: i64,
    subject: &Subject,
    at: &At<'_>,
    to: &To<'_>,
    requested_at: DateTime<Utc>,
    completed_at: DateTime<Utc>,
) -> LedgerRow {
    let tags = &subject.tags;
    LedgerRow {
        attempt_id: at.id,
        request_id: subject.request_id.clone(),
        job_id: subject.job_id,
        custom_id: subject.custom_id.clone(),
        provider_request_id: None,
        attempt_no: at.no,
        attempt_reason: at.reason.as_str().to_owned(),
        fallback_from: at.fallback_from.map(str::to_owned),
        is_final: false,
        record_kind: RecordKind::Original.as_str().to_owned(),
        corrects_attempt_id: None,
        requested_at,
        completed_at,
        recorded_at: completed_at,
        usage_date: completed_at.date_naive(),
        reserved_at: at.reserved_at,
        team: subject.team.to_string(),
        environment: tags.environment().to_owned(),
        feature: tags.feature().to_owned(),
        customer: tags.customer().map(str::to_owned),
        cost_center: tags.cost_center().map(str::to_owned),
        key_id: Some(subject.key_id.to_string()),
        tags_json: (!tags.is_empty()).then(|| serde_json::to_string(&**tags).ok()).flatten(),
        worker_id,
        provider: to.provider.to_owned(),
        deployment: to.deployment.to_owned(),
        billing_account: to.billing_account.map(str::to_owned),
        provider_project: to.provider_project.map(str::to_owned),
        region: to.region.map(str::to_owned),
        model_requested: subject.model.to_string(),
        model_billed: to.model.to_owned(),
        service_tier: None,
        processing: "sync".to_owned(),
        lane: subject.lane.as_str().to_owned(),
        input_uncached: None,
        cache_read: None,
        cache_write_5m: None,
        cache_write_1h: None,
        input_audio: None,
        input_image: None,
        output_text: None,
        output_reasoning: None,
        output_audio: None,
        prompt_total: None,
        usage_source: None,
        queue_ms: Some(queue_ms(subject, requested_at)),
        ttft_ms: None,
        latency_ms: None,
        status: String::new(),
        http_status: None,
        error_class: None,
        billable: false,
        cache_hit: false,
        reserved: None,
        cost_input: None,
        cost_cache_read: None,
        cost_cache_write: None,
        cost_output: None,
        cost_other: None,
        list_cost: None,
        contracted_cost: None,
        cost_if_uncached: None,
        cost_if_not_batch: None,
        price_version: None,
        price_status: PriceStatus::Unpriced.as_str().to_owned(),
    }
}
