//! Which deployment serves a call: the first of the route that is healthy and has room.

mod health;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use domain::{
    Endpoint, Lane,
    budget::Policy,
    waits::{Obstacle, WaitReason},
};

pub use health::{Backoff, Health};

use crate::{
    budgets::{Ask, Budgets, Pressing, Refusal, Reservation},
    catalog::{ActiveDeployment, ActiveRoute},
    limits::{Limiter, Permit, Reserves},
};

/// Where a call may go now.
#[derive(Debug)]
pub enum Next {
    Use(Arc<ActiveDeployment>, Permit, Reservation),
    /// None can take it now; the soonest may be asked again after this.
    Wait {
        after: Duration,
        obstacle: Obstacle,
    },
    /// What it can cost does not fit into a budget.
    Broke(Refusal),
}

/// What a choice of deployment goes by.
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
    /// For whom, and how large it can get.
    pub ask: &'a Ask,
    pub now: DateTime<Utc>,
    pub pressing: Pressing,
}

/// How long a request waits for a deployment whose limit refused: a grant comes within milliseconds, a slot when a call ends.
pub const LIMIT_PAUSE: Duration = Duration::from_millis(25);

pub fn next(choice: Choice<'_>, health: &Health, limits: &Limiter, budgets: &Budgets) -> Next {
    match first_fit(choice, health, limits, budgets) {
        Next::Broke(refusal) if refusal.is_final() && refusal.rule.budget.soft => {
            first_fit(Choice { pressing: Pressing::Overdraw, ..choice }, health, limits, budgets)
        }
        found => found,
    }
}

fn first_fit(choice: Choice<'_>, health: &Health, limits: &Limiter, budgets: &Budgets) -> Next {
    let mut broke: Option<Refusal> = None;
    let mut wait: Option<(Duration, Obstacle)> = None;
    let mut consider = |after: Duration, obstacle: Obstacle| {
        if wait.as_ref().is_none_or(|(known, _)| after < *known) {
            wait = Some((after, obstacle));
        }
    };
    for deployment in candidates(choice.route, choice.endpoint) {
        if choice.tried.iter().any(|tried| **tried == *deployment.name) {
            continue;
        }
        if let Err(after) = health.ready(&deployment.name) {
            consider(after, health.obstacle(&deployment.name));
            continue;
        }
        match limits.take_deployment(&deployment.name, choice.lane, choice.reserves, choice.tokens) {
            Ok(permit) => match budgets.reserve(choice.ask, deployment, choice.now, choice.pressing) {
                Ok(reservation) => {
                    health.started(&deployment.name);
                    return Next::Use(Arc::clone(deployment), permit, reservation);
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
            // Of a deployment, so no team is named in it.
            Err(refused) => consider(LIMIT_PAUSE, refused.obstacle("")),
        }
    }
    if let Some(refusal) = broke {
        return Next::Broke(refusal);
    }
    let none_left = || (LIMIT_PAUSE, Obstacle::new(WaitReason::Other, "no deployment left"));
    let (after, obstacle) = wait.unwrap_or_else(none_left);
    Next::Wait { after, obstacle }
}

/// The deployments that may serve this. Vectors of two models are not comparable: embeddings keep to the first one's model.
pub fn candidates(route: &ActiveRoute, endpoint: Endpoint) -> impl Iterator<Item = &Arc<ActiveDeployment>> {
    let first = route.deployments.first().map(|d| d.spec.model.as_str());
    route.deployments.iter().filter(move |d| endpoint != Endpoint::Embeddings || Some(d.spec.model.as_str()) == first)
}
