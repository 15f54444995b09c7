//! A claimed request: everything that calling and settling it needs.

use std::sync::{Arc, Mutex, PoisonError};

use admission::Admission;
use admission::{
    budgets::ReservationRequest,
    catalog::{ActiveCatalog, ActiveDeployment, ActiveRoute},
    fit::{Bounds, Ceilings, NeverFits},
};
use chrono::{DateTime, Utc};
use domain::{AttemptReason, Endpoint, JobId, Lane, RequestId, Tags, ids::attempt_id};
use store::{
    claim::{Body, RetryRow},
    lease::LeaseKey,
};

use crate::{
    Engine,
    meter::{Attempt, Subject},
};
use admission::route::Backoff;

/// What the requests of one flow have in common.
#[derive(Debug)]
pub struct JobInfo {
    pub job_id: i64,
    pub team_id: i64,
    pub team: Arc<str>,
    pub key_id: Arc<str>,
    pub lane: Lane,
    pub tags: Arc<Tags>,
    /// The most that it may cost, in pico-USD.
    pub max_cost: Option<i128>,
    pub submitted_at: DateTime<Utc>,
    pub max_attempts: i16,
    pub deadline_at: Option<DateTime<Utc>>,
    pub endpoint: Endpoint,
    /// Pauses between the tries of a request.
    pub backoff: Backoff,
    pub route: Arc<ActiveRoute>,
    /// The catalog under which it was claimed; it ends under the same.
    pub catalog: Arc<ActiveCatalog>,
}

impl JobInfo {
    /// What a request of the job asks budgets to reserve.
    pub fn ask(&self, est_in: i64, max_out: Option<i64>) -> ReservationRequest {
        ReservationRequest {
            team: Arc::clone(&self.team),
            key: Arc::clone(&self.key_id),
            job: Some(self.job_id),
            max_cost: self.max_cost,
            tags: Arc::clone(&self.tags),
            endpoint: self.endpoint,
            est_in,
            max_out,
            is_oversized: false,
        }
    }

    /// What one call of it has to fit into.
    pub(super) fn ceilings(&self, engine: &Engine, now: DateTime<Utc>) -> Ceilings {
        let bounds = Bounds {
            limits: &engine.control.limits,
            budgets: &engine.control.budgets,
            team_id: self.team_id,
            team: &self.team,
            key_id: &self.key_id,
            lane: &self.lane,
            tags: &self.tags,
            now,
        };
        bounds.of(&self.route, self.endpoint)
    }
}

#[derive(Debug)]
pub struct Request {
    pub key: LeaseKey,
    pub job: Arc<JobInfo>,
    pub line: i32,
    pub est_in: i32,
    pub max_out: Option<i32>,
    pub custom_id: String,
    pub body: String,
    /// Attempts that it has used up, before this lease.
    pub failures: i16,
    /// A limit or a budget was lowered since it was submitted, and it can never start.
    pub never_fits: Option<NeverFits>,
    /// The first attempt of its lease.
    pub first: Attempt,
    /// Taken by the task that runs it.
    admission: Mutex<Option<Admission>>,
}

/// Which try of a request a lease is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Try {
    reason: AttemptReason,
    no: i32,
    /// Of the tries before.
    failures: i16,
}

impl Try {
    pub const FIRST: Self = Self { reason: AttemptReason::Primary, no: 1, failures: 0 };

    pub fn again(retry: &RetryRow) -> Self {
        Self { reason: AttemptReason::Retry, no: retry.attempt_no + 1, failures: retry.failures }
    }
}

impl Request {
    pub(super) fn new(
        key: LeaseKey,
        job: Arc<JobInfo>,
        body: Body,
        deployment: Arc<ActiveDeployment>,
        tried: Try,
        claimed_at: DateTime<Utc>,
        mut admission: Admission,
    ) -> Self {
        // Admitted as large as any of its flow can be.
        admission.lower(i64::from(body.est_in), body.max_out.map(i64::from));
        let first = Attempt {
            id: attempt_id(claimed_at),
            no: tried.no,
            reason: tried.reason,
            fallback_from: None,
            deployment,
            endpoint: job.endpoint,
            reserved_at: admission.reserved_at().unwrap_or(claimed_at),
            reserved: admission.reserved(),
        };
        Self {
            key,
            job,
            line: body.line,
            est_in: body.est_in,
            max_out: body.max_out,
            custom_id: body.custom_id,
            body: body.body,
            failures: tried.failures,
            never_fits: None,
            first,
            admission: Mutex::new(Some(admission)),
        }
    }

    pub fn subject(&self) -> Subject {
        let id = RequestId { job: JobId(self.job.job_id), line: self.line };
        Subject {
            request_id: id.to_string(),
            job_id: Some(self.job.job_id),
            custom_id: Some(self.custom_id.clone()),
            team: Arc::clone(&self.job.team),
            tags: Arc::clone(&self.job.tags),
            key_id: Arc::clone(&self.job.key_id),
            lane: self.job.lane.clone(),
            model: Arc::clone(&self.job.route.name),
            submitted_at: self.job.submitted_at,
            est_in: i64::from(self.est_in),
            max_out: self.max_out.map(i64::from),
        }
    }

    /// Takes its resources; empty if they were taken before.
    pub fn take_admission(&self) -> Admission {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }
}
