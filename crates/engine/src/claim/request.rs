//! A claimed request: everything that calling and settling it needs.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use domain::{AttemptReason, Endpoint, JobId, Lane, RequestId, Tags, ids::attempt_id};
use providers::CallError;
use store::{claim::Body, lease::LeaseKey};

use crate::{
    budgets::{Ask, Reservation},
    catalog::{ActiveCatalog, ActiveDeployment, ActiveRoute},
    limits::Permit,
    meter::{Attempt, Subject},
    route::Backoff,
    settle::Hold,
};

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
    /// For whom a request of it is made, and how large it can get.
    pub fn ask(&self, est_in: i64, max_out: Option<i64>) -> Ask {
        Ask {
            team: Arc::clone(&self.team),
            key: Arc::clone(&self.key_id),
            job: Some(self.job_id),
            max_cost: self.max_cost,
            tags: Arc::clone(&self.tags),
            endpoint: self.endpoint,
            est_in,
            max_out,
        }
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
    /// Failed tries that count, before this lease.
    pub failures: i16,
    /// The attempt its lease stands for; replaced when it goes on to another deployment.
    attempt: Mutex<Attempt>,
    /// Taken by whoever settles it.
    hold: Mutex<Option<Hold>>,
}

impl Request {
    #[expect(clippy::too_many_arguments, reason = "made in one place, from all that a claim read")]
    pub(super) fn new(
        key: LeaseKey,
        job: Arc<JobInfo>,
        body: Body,
        deployment: Arc<ActiveDeployment>,
        reason: AttemptReason,
        attempt_no: i32,
        failures: i16,
        claimed_at: DateTime<Utc>,
        hold: Hold,
    ) -> Self {
        // Admitted as large as any of its flow can be.
        hold.reservation.lower(i64::from(body.est_in), body.max_out.map(i64::from));
        let attempt = Attempt {
            id: attempt_id(claimed_at),
            no: attempt_no,
            reason,
            fallback_from: None,
            deployment,
            reserved_at: hold.reservation.at().unwrap_or(claimed_at),
        };
        Self {
            key,
            job,
            line: body.line,
            est_in: body.est_in,
            max_out: body.max_out,
            custom_id: body.custom_id,
            body: body.body,
            failures,
            attempt: Mutex::new(attempt),
            hold: Mutex::new(Some(hold)),
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

    /// The attempt under way, or about to be.
    pub fn attempt(&self) -> Attempt {
        self.attempt.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_attempt(&self, next: Attempt) {
        *self.attempt.lock().unwrap_or_else(PoisonError::into_inner) = next;
    }

    /// Takes another deployment's permit in place of the last one's, whose slot is free from here on.
    pub(crate) fn swap_deployment(&self, permit: Permit) {
        if let Some(hold) = self.hold.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            hold.deployment = permit;
        }
    }

    /// The call at its deployment failed; see [`Permit::failed`].
    pub(crate) fn call_failed(&self, error: &CallError) {
        if let Some(hold) = self.hold.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            hold.deployment.failed(error.class, error.usage.and_then(|usage| usage.total()));
        }
    }

    /// From here on its attempt may cost something.
    pub(crate) fn mark_sent(&self) {
        if let Some(hold) = self.hold.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            hold.reservation.mark_sent();
        }
    }

    /// Takes what is held for another attempt in place of the last one's, and gives that.
    pub(crate) fn swap_reservation(&self, next: Reservation) -> Reservation {
        match self.hold.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(hold) => std::mem::replace(&mut hold.reservation, next),
            None => next,
        }
    }

    /// Gives back what its caller's rates were charged: no deployment took it.
    pub(crate) fn refund(&self) {
        if let Some(hold) = self.hold.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            hold.caller.refund();
        }
    }

    /// Estimated tokens, for limits in tokens.
    pub fn tokens(&self) -> i64 {
        i64::from(self.est_in) + i64::from(self.max_out.unwrap_or(0))
    }

    pub fn take_hold(&self) -> Hold {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use domain::ErrorClass;

    use super::*;
    use crate::{
        limits::{Kind, Rule},
        submit::testing,
    };

    fn request(hold: Hold) -> Request {
        let catalog = Arc::new(testing::catalog());
        let route = Arc::clone(catalog.route("chat").unwrap());
        let deployment = Arc::clone(&route.deployments[0]);
        let job = JobInfo {
            job_id: 1,
            team_id: 1,
            team: "t".into(),
            key_id: "k".into(),
            lane: Lane::bulk(),
            tags: Arc::default(),
            max_cost: None,
            submitted_at: DateTime::UNIX_EPOCH,
            max_attempts: 5,
            deadline_at: None,
            endpoint: Endpoint::ChatCompletions,
            backoff: Backoff { first: std::time::Duration::ZERO, longest: std::time::Duration::ZERO },
            route,
            catalog,
        };
        let body =
            Body { flow_id: 1, pos: 0, line: 1, est_in: 10, max_out: None, custom_id: "a".into(), body: "{}".into() };
        let key = LeaseKey { flow_id: 1, pos: 0, epoch: 1 };
        let now = DateTime::UNIX_EPOCH;
        Request::new(key, Arc::new(job), body, deployment, AttemptReason::Primary, 1, 0, now, hold)
    }

    fn error(class: ErrorClass) -> CallError {
        CallError {
            class,
            http_status: None,
            retry_after: None,
            message: String::new(),
            body: None,
            usage: None,
            provider_request_id: None,
        }
    }

    #[test]
    fn a_call_that_never_reached_its_deployment_burns_none_of_its_rates() {
        for (class, left) in [(ErrorClass::Connect, 5), (ErrorClass::Throttled, 5), (ErrorClass::ServerError, 4)] {
            let (rule, permit) = Rule::granted(Kind::Rpm, 5);
            let request = request(Hold { deployment: permit, ..Hold::default() });
            request.call_failed(&error(class));
            drop(request);
            assert_eq!(rule.left(), left, "{class:?}");
        }
    }
}
