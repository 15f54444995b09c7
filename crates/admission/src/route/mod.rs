//! Which deployment serves a call: the first of the route that is healthy and has room.

mod blame;
pub mod by_hand;
mod circuit;
mod health;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use domain::{
    Endpoint, ErrorClass, Lane,
    budget::Policy,
    waits::{Obstacle, WaitReason},
};
use scheduler::backoff::LIMIT_BACKOFF;

pub use blame::Blame;
pub use circuit::Backoff;
pub use health::{Failure, Health, Shut, Standing, obstacle};

use crate::{
    Placement,
    budgets::{Budgets, Refusal, ReservationRequest, Urgency},
    catalog::ActiveRoute,
    limits::{Limiter, Refused, Reserves, Waiter},
};

/// Where a call may go now.
#[derive(Debug)]
pub enum Next {
    Use(Placement),
    /// No deployment can take it now; the first one may be tried again after this.
    Wait {
        after: Duration,
        obstacle: Obstacle,
        /// Why the provider is not asked, where it is that.
        class: Option<ErrorClass>,
    },
    /// Its worst-case cost does not fit into a budget.
    OverBudget(Refusal),
}

/// The inputs of the choice of a deployment.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    pub route: &'a ActiveRoute,
    pub endpoint: Endpoint,
    /// Deployments that failed this request in this round.
    pub tried: &'a [Arc<str>],
    pub lane: &'a Lane,
    /// What lanes have reserved of each deployment.
    pub reserves: &'a Reserves,
    /// For limits in tokens.
    pub tokens: i64,
    /// What the call asks budgets to reserve.
    pub ask: &'a ReservationRequest,
    pub now: DateTime<Utc>,
    pub urgency: Urgency,
}

pub fn next(choice: Choice<'_>, health: &Health, limits: &Limiter, budgets: &Budgets) -> Next {
    match first_fit(choice, health, limits, budgets) {
        Next::OverBudget(refusal) if refusal.is_final() && refusal.rule.budget.soft => {
            first_fit(Choice { urgency: Urgency::AllowOverdraft, ..choice }, health, limits, budgets)
        }
        found => found,
    }
}

fn first_fit(choice: Choice<'_>, health: &Health, limits: &Limiter, budgets: &Budgets) -> Next {
    let mut broke: Option<Refusal> = None;
    let mut wait: Option<(Duration, Hindrance<'_>)> = None;
    let mut consider = |after: Duration, hindrance| {
        if wait.as_ref().is_none_or(|(known, _)| after < *known) {
            wait = Some((after, hindrance));
        }
    };
    let waiter = if choice.ask.job.is_some() { Waiter::Job } else { Waiter::Caller };
    for deployment in choice.route.candidates(choice.endpoint) {
        if choice.tried.iter().any(|tried| **tried == *deployment.name) {
            continue;
        }
        if let Err(shut) = health.ready(&deployment.name, &choice.ask.team) {
            consider(shut.after, Hindrance::Shut(&deployment.name, shut));
            continue;
        }
        match limits.take_deployment(&deployment.name, choice.lane, choice.reserves, choice.tokens, waiter) {
            Ok(permit) => match budgets.reserve(choice.ask, deployment, choice.now, choice.urgency) {
                Ok(reservation) => {
                    health.started(&deployment.name, &choice.ask.team);
                    return Next::Use(Placement::new(Arc::clone(deployment), permit, reservation));
                }
                Err(refusal) => {
                    permit.cancel();
                    // A cheaper one may fit.
                    let goes_on = refusal.is_final() && refusal.rule.policy == Policy::Downgrade;
                    broke.get_or_insert(refusal);
                    if !goes_on {
                        break;
                    }
                }
            },
            Err(refused) => consider(LIMIT_BACKOFF, Hindrance::Limit(refused)),
        }
    }
    if let Some(refusal) = broke {
        return Next::OverBudget(refusal);
    }
    match wait {
        Some((after, Hindrance::Shut(name, shut))) => Next::Wait {
            after,
            obstacle: obstacle(name, shut),
            class: Some(shut.class.unwrap_or(ErrorClass::Overloaded)),
        },
        // Of a deployment, so no team is named in it.
        Some((after, Hindrance::Limit(refused))) => Next::Wait { after, obstacle: refused.obstacle(""), class: None },
        None => {
            let obstacle = Obstacle::new(WaitReason::Other, "no deployment left");
            Next::Wait { after: LIMIT_BACKOFF, obstacle, class: None }
        }
    }
}

/// What keeps a call from a deployment.
enum Hindrance<'a> {
    Shut(&'a str, Shut),
    Limit(Refused),
}
