//! How a synchronous call waits for admission: one round fetches what it lacks of limits and budgets, and it is refused
//! once its limits are known to be full.

use std::{sync::Arc, time::Instant};

use admission::{
    budgets::{ReservationRequest, Urgency},
    catalog::{ActiveDeployment, ActiveRoute},
    limits::{Full, Reserves, Verdict, Waiter},
};
use domain::{Endpoint, Lane};
use tokio::sync::watch;

use crate::{Engine, failover::Request};

/// The deployments that a call may use, and what it needs there of limits and budgets.
#[derive(Clone, Copy)]
pub(super) struct CallNeeds<'a> {
    pub route: &'a ActiveRoute,
    pub endpoint: Endpoint,
    pub tried: &'a [Arc<str>],
    pub lane: &'a Lane,
    pub reserves: &'a Reserves,
    pub tokens: i64,
    pub ask: &'a ReservationRequest,
}

impl<'a> CallNeeds<'a> {
    pub fn of(request: &Request<'a>, tried: &'a [Arc<str>]) -> Self {
        Self {
            route: request.route,
            endpoint: request.endpoint,
            tried,
            lane: &request.subject.lane,
            reserves: &request.catalog.reserves,
            tokens: request.tokens(),
            ask: request.ask,
        }
    }

    /// The deployments that may still take it.
    fn candidates(self) -> impl Iterator<Item = &'a Arc<ActiveDeployment>> {
        let is_tried = move |name: &str| self.tried.iter().any(|tried| **tried == *name);
        self.route.candidates(self.endpoint).filter(move |deployment| !is_tried(&deployment.name))
    }

    /// Registers demand for everything that the call lacks, then waits until a retry may succeed. Grants of limits and
    /// of budgets are thus fetched at the same time, not one after the other.
    pub async fn wait(self, engine: &Engine, turn: watch::Receiver<u64>) {
        let Some(deployment) = self.candidates().next() else { return engine.control.limits.wait(turn).await };
        engine.control.limits.want_deployment(&deployment.name, self.lane, self.reserves, self.tokens, Waiter::Caller);
        let money = engine.control.budgets.turn();
        match engine.control.budgets.reserve(self.ask, deployment, engine.clock.now(), Urgency::CanWait) {
            Ok(reservation) => reservation.release(),
            Err(refusal) if !refusal.is_final() => {
                tokio::join!(engine.control.limits.wait(turn), engine.control.budgets.wait(&refusal, money));
                return;
            }
            Err(_) => {}
        }
        engine.control.limits.wait(turn).await;
    }

    /// What the limits of the deployments say of a call that began at `since`: all of them are full, or it waits.
    pub fn verdict(self, engine: &Engine, since: Instant) -> Verdict {
        let (now, mut soonest) = (Instant::now(), None::<Box<Full>>);
        for deployment in
            self.candidates().filter(|deployment| engine.control.health.ready(&deployment.name, &self.ask.team).is_ok())
        {
            let checked =
                engine.control.limits.check_deployment(&deployment.name, self.lane, self.reserves, self.tokens);
            match checked.map_err(|refused| engine.control.limits.verdict(refused, since, now)) {
                Ok(()) => return Verdict::Again,
                Err(Verdict::Full(full)) => {
                    if soonest.as_ref().is_none_or(|known| full.retry_after < known.retry_after) {
                        soonest = Some(full);
                    }
                }
                Err(other) => return other,
            }
        }
        soonest.map_or(Verdict::Again, Verdict::Full)
    }
}
