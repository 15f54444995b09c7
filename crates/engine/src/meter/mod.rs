//! From what came back to what it cost: usage, charge, and the ledger row that says so.

mod end;
mod plausible;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use domain::{
    AttemptId, AttemptReason, AttemptStatus, Endpoint, ErrorClass, Lane, LedgerRow, Money, Tags, Usage, UsageSource,
    ledger::{PriceStatus, RecordKind},
};
use plausible::{Seen, judged};
use pricing::{Charge, Price, PricedModel, Terms};
use providers::{Answer, CallError, StreamEnd};
use tracing::warn;

pub use self::end::{HungUp, finish, finish_hung_up};

use admission::catalog::{ActiveCatalog, ActiveDeployment};

/// For whom a call is made: what its ledger row says of the request.
#[derive(Debug, Clone)]
pub struct Subject {
    pub request_id: String,
    pub job_id: Option<i64>,
    pub custom_id: Option<String>,
    pub team: Arc<str>,
    pub tags: Arc<Tags>,
    pub key_id: Arc<str>,
    pub lane: Lane,
    /// The route, as the caller wrote it.
    pub model: Arc<str>,
    pub submitted_at: DateTime<Utc>,
    pub est_in: i64,
    pub max_out: Option<i64>,
}

/// One provider call of it.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub id: AttemptId,
    pub no: i32,
    pub reason: AttemptReason,
    pub fallback_from: Option<Arc<str>>,
    pub deployment: Arc<ActiveDeployment>,
    pub endpoint: Endpoint,
    /// When its slot and its money were held.
    pub reserved_at: DateTime<Utc>,
    /// The most that it can cost; `None` when the deployment has no price.
    pub reserved: Option<Money>,
}

/// How it ended, as the ledger needs it.
#[derive(Debug)]
pub struct Ended<'a> {
    pub started: Instant,
    pub ended: Instant,
    pub ttft: Option<Duration>,
    pub usage: Option<Usage>,
    /// Bytes of visible output that came back: what usage is estimated by, and held against.
    pub output_bytes: usize,
    /// Choices that came back; 0 where there are none.
    pub choices: u32,
    pub model: Option<&'a str>,
    pub service_tier: Option<&'a str>,
    pub provider_request_id: Option<&'a str>,
    pub http_status: Option<u16>,
    pub error: Option<ErrorClass>,
}

impl<'a> Ended<'a> {
    pub fn answer(started: Instant, ended: Instant, answer: &'a Answer) -> Self {
        Self {
            started,
            ended,
            ttft: Some(answer.ttft),
            usage: answer.usage,
            output_bytes: usize::try_from(answer.output_bytes).unwrap_or(usize::MAX),
            choices: answer.choices,
            model: answer.model.as_deref(),
            service_tier: answer.service_tier.as_deref(),
            provider_request_id: answer.provider_request_id.as_deref(),
            http_status: Some(answer.status),
            error: None,
        }
    }

    pub fn error(started: Instant, ended: Instant, error: &'a CallError) -> Self {
        Self {
            started,
            ended,
            ttft: None,
            usage: error.usage,
            output_bytes: 0,
            choices: 0,
            model: None,
            service_tier: None,
            provider_request_id: error.provider_request_id.as_deref(),
            http_status: error.http_status,
            error: Some(error.class),
        }
    }
}

impl<'a> Ended<'a> {
    /// Of a stream that began, with the error that ended it early.
    pub fn streamed(started: Instant, ended: Instant, end: &'a StreamEnd, error: Option<&CallError>) -> Self {
        Self {
            started,
            ended,
            ttft: end.ttft,
            usage: end.usage.or_else(|| error?.usage),
            output_bytes: usize::try_from(end.output_bytes).unwrap_or(usize::MAX),
            choices: end.choices,
            model: end.model.as_deref(),
            service_tier: end.service_tier.as_deref(),
            provider_request_id: end.provider_request_id.as_deref(),
            http_status: Some(200),
            error: error.map(|error| error.class),
        }
    }
}

/// A provider's text as PostgreSQL can store it: its JSON may hold escaped NULs. Bounded, for it is hostile.
pub fn storable(text: &str) -> String {
    text.chars().filter(|c| *c != '\0').take(512).collect()
}

/// The row of an attempt of which nobody learned how it ended: charged at what was held for it.
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

/// What the provider reported, if it can be meant, or an estimate where it may have charged without saying; `false`: it charged nothing.
fn usage_of(subject: &Subject, attempt: &Attempt, ended: &Ended<'_>) -> (Option<Usage>, bool) {
    let seen = Seen {
        est_in: subject.est_in,
        max_out: subject.max_out,
        context: attempt.deployment.price.as_ref().and_then(PricedModel::context),
        choices: ended.choices,
        output_bytes: ended.output_bytes,
    };
    // Of a stream that broke off with an error, what had come was written, and is paid for as a rule.
    let was_written = ended.error.is_none_or(ErrorClass::may_be_billed) || ended.output_bytes > 0;
    match ended.usage {
        Some(reported) => {
            let usage = judged(reported, &seen);
            if usage.source == UsageSource::Implausible {
                warn!(deployment = %attempt.deployment.name, request.id = %subject.request_id, input = reported.prompt_total(),
                      output = reported.output_total(), "A provider reports usage that its call cannot have; it is booked at the most it can");
            }
            (Some(usage), true)
        }
        None if was_written && !said_no(ended.http_status) => (Some(seen.estimated()), true),
        None => (None, false),
    }
}

/// Whether the provider answered with an error or a redirect: that costs nothing, whatever became of its body.
fn said_no(http_status: Option<u16>) -> bool {
    http_status.is_some_and(|status| !(200..300).contains(&status))
}

fn charge_of(
    catalog: &ActiveCatalog,
    attempt: &Attempt,
    ended: &Ended<'_>,
    usage: Option<&Usage>,
    billable: bool,
    at: DateTime<Utc>,
) -> Charge {
    if !billable {
        return Charge::not_billable();
    }
    let Some(usage) = usage else { return Charge::unpriced() };
    let terms = Terms { service_tier: ended.service_tier, ..Terms::sync() };
    priced(catalog, &attempt.deployment, ended.model, terms, at)
        .and_then(|price| pricing::charge(&price, usage).ok())
        .unwrap_or_else(Charge::unpriced)
}

/// The price of the model that was billed: an own price of the deployment's model wins, then the name the provider gave.
fn priced(
    catalog: &ActiveCatalog,
    deployment: &ActiveDeployment,
    billed: Option<&str>,
    terms: Terms<'_>,
    at: DateTime<Utc>,
) -> Option<Price> {
    let model = match billed {
        Some(billed) if billed != deployment.spec.model => {
            catalog.prices.resolve_billed(deployment.spec.provider_name(), &deployment.spec.model, billed).ok()?
        }
        _ => deployment.price.clone()?,
    };
    model.at(at, terms).ok()
}

fn put_usage(row: &mut LedgerRow, usage: &Usage) {
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

fn put_charge(row: &mut LedgerRow, charge: &Charge) {
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

fn queue_ms(subject: &Subject, requested_at: DateTime<Utc>) -> i64 {
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
