//! Which deployment serves a call: the first of the route that is healthy and has room.

mod health;

use std::{sync::Arc, time::Duration};

use domain::{
    Endpoint, Lane,
    waits::{Obstacle, WaitReason},
};

pub use health::{Backoff, Health};

use crate::{
    catalog::{ActiveDeployment, ActiveRoute},
    limits::{Limiter, Permit, Reserves},
};

/// Where a call may go now.
#[derive(Debug)]
pub enum Next {
    Use(Arc<ActiveDeployment>, Permit),
    /// None can take it now; the soonest may be asked again after this.
    Wait {
        after: Duration,
        obstacle: Obstacle,
    },
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
}

/// How long a request waits for a deployment whose limit refused: a grant comes within milliseconds, a slot when a call ends.
pub const LIMIT_PAUSE: Duration = Duration::from_millis(25);

pub fn next(choice: Choice<'_>, health: &Health, limits: &Limiter) -> Next {
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
            Ok(permit) => {
                health.started(&deployment.name);
                return Next::Use(Arc::clone(deployment), permit);
            }
            // Of a deployment, so no team is named in it.
            Err(refused) => consider(LIMIT_PAUSE, refused.obstacle("")),
        }
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
