//! From an answer to its cost: usage, charge, and the ledger row.

mod end;
mod plausible;
mod row;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use domain::{AttemptId, AttemptReason, Endpoint, ErrorClass, Lane, Money, Tags, Usage, UsageSource};
use plausible::{Seen, judged};
use pricing::{Charge, Price, PricedModel, Terms};
use providers::{Answer, CallError, StreamEnd};
use tracing::warn;

pub use self::{
    end::{HungUp, finish, finish_hung_up},
    row::{undeclared_row, unknown_row},
};

use admission::catalog::{ActiveCatalog, ActiveDeployment};

/// The request behind a call, as its ledger row names it.
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
