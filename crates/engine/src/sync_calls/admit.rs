//! Admission of a synchronous call: route, lane, price, and the caller's own caps.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use admission::{
    Admission, Placement,
    budgets::{self, ReservationRequest, Urgency},
    catalog::{ActiveCatalog, ActiveRoute},
    fit::{self, SizeRule},
    limits::{Permit, Verdict, Waiter},
    route::Next,
};
use domain::{
    Endpoint, Lane,
    catalog::LaneRule,
    waits::{Obstacle, WaitReason},
};
use scheduler::CallGuard;

use super::{Direct, DirectError, admission_wait::CallNeeds, request::SyncCall};
use crate::{
    Engine,
    admit::Caller,
    failover::{Request, Stuck},
    meter::Subject,
};

/// How long a call waits for a place in its lane, or for a deployment that cools.
const ADMISSION_TIMEOUT: Duration = Duration::from_millis(100);
const POLL_INTERVAL: Duration = Duration::from_millis(4);

pub(super) async fn admit(
    engine: &Engine,
    caller: &Caller,
    direct: &Direct,
) -> Result<(SyncCall, Admission), DirectError> {
    let text = std::str::from_utf8(&direct.body).map_err(|_| DirectError::Invalid("the body is not UTF-8".into()))?;
    let call = wire::Call::parse(direct.endpoint, text).map_err(|e| DirectError::Invalid(e.to_string()))?;
    let catalog = engine.catalog.get();
    let route = route_of(engine, &catalog, &call.model, direct.endpoint)?;
    let lane = match &direct.lane {
        Some(lane) => lane.clone(),
        None => caller.lanes[0].clone(),
    };
    if !caller.may_use(&lane) || !catalog.lanes.contains_key(&lane) {
        return Err(DirectError::LaneForbidden(lane));
    }
    if catalog.lanes[&lane].closed {
        return Err(DirectError::LaneClosed { lane, open: catalog.open_lanes() });
    }
    let (est_in, max_out) = SizeRule::of(&route, direct.endpoint).size(&call);
    let rules = engine.control.limits.caller_rules(caller.team_id, &lane, &caller.key_id);
    let tokens = fit::rate_tokens(est_in, max_out);
    fit::check_rates(&engine.control.limits, &rules, &route, direct.endpoint, &lane, (tokens, &*caller.team))
        .map_err(|never| DirectError::Invalid(never.to_string()))?;
    let now = engine.clock.now();
    let subject = Subject {
        request_id: direct.request_id.to_string(),
        job_id: None,
        custom_id: None,
        team: Arc::clone(&caller.team),
        tags: Arc::new(direct.tags.clone()),
        key_id: Arc::clone(&caller.key_id),
        lane: lane.clone(),
        model: Arc::clone(&route.name),
        submitted_at: now,
        est_in,
        max_out,
    };
    let ask = ReservationRequest {
        team: Arc::clone(&subject.team),
        key: Arc::clone(&subject.key_id),
        job: None,
        max_cost: None,
        tags: Arc::clone(&subject.tags),
        endpoint: direct.endpoint,
        est_in: subject.est_in,
        max_out: subject.max_out,
        is_oversized: false,
    };
    let began = Instant::now();
    let in_lane = enter(engine, &lane, &catalog.lanes[&lane], began + ADMISSION_TIMEOUT).await?;
    let place = CallNeeds {
        route: &route,
        endpoint: direct.endpoint,
        tried: &[],
        lane: &lane,
        reserves: &catalog.reserves,
        tokens,
        ask: &ask,
    };
    let permit = take(engine, caller, place, began).await?;
    let call = SyncCall {
        subject,
        endpoint: direct.endpoint,
        stream: call.stream,
        body: direct.body.clone(),
        route,
        catalog,
        ask,
        cut: engine.calls.token(),
    };
    Ok((call, Admission::in_lane(in_lane, permit)))
}

/// The route of this name, if it can serve the endpoint and the call can be charged.
fn route_of(
    engine: &Engine,
    catalog: &ActiveCatalog,
    model: &str,
    endpoint: Endpoint,
) -> Result<Arc<ActiveRoute>, DirectError> {
    let Some(route) = catalog.route(model) else {
        return Err(DirectError::UnknownModel(model.chars().take(128).collect()));
    };
    if !route.serves(endpoint) {
        let (path, kinds) = (endpoint.path(), route.kinds());
        let what = format!("model {:?} does not serve /v1{path}: its deployments are of kind {kinds}", route.name);
        return Err(DirectError::Invalid(what));
    }
    if !route.is_priced(endpoint, engine.clock.now()) {
        return Err(DirectError::Unpriced(route.name.to_string()));
    }
    Ok(Arc::clone(route))
}

/// Takes a place in the lane; waits briefly when the lane is at its maximum.
async fn enter(engine: &Engine, lane: &Lane, rule: &LaneRule, until: Instant) -> Result<CallGuard, DirectError> {
    let (most, mut again) = (engine.slots.most(rule), false);
    loop {
        if let Some(guard) = engine.slots.enter(lane, most, again) {
            return Ok(guard);
        }
        if Instant::now() >= until {
            let what = format!(
                "Tollway's maximum share of lane {lane}, {} % of this replica's slots, is used up: a call may start when one of them ends",
                rule.max_percent
            );
            return Err(DirectError::Limited { what, retry_after: Duration::from_secs(1) });
        }
        again = true;
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Takes from the caller's limits. They refuse once they are known to be full; see [`Verdict`].
async fn take(engine: &Engine, caller: &Caller, place: CallNeeds<'_>, began: Instant) -> Result<Permit, DirectError> {
    let mut has_asked = false;
    loop {
        // Before the try: what comes free during it is not missed.
        let turn = engine.control.limits.turn();
        // A limit may be set while it waits.
        let rules = engine.control.limits.caller_rules(caller.team_id, place.lane, &caller.key_id);
        let refused = match engine.control.limits.take(&rules, place.tokens, Waiter::Caller) {
            Ok(permit) => return Ok(permit),
            Err(refused) => refused,
        };
        match engine.control.limits.verdict(refused, began, Instant::now()) {
            Verdict::Again if has_asked => engine.control.limits.wait(turn).await,
            Verdict::Again => {
                has_asked = true;
                place.wait(engine, turn).await;
            }
            Verdict::Full(full) => {
                let what = full.refused.told(&caller.team, full.retry_after, engine.clock.now());
                return Err(DirectError::Limited { what, retry_after: full.retry_after });
            }
            Verdict::Unknown => return Err(DirectError::Unavailable),
        }
    }
}

/// The next deployment to try; waits briefly for its limits and for money that is reserved elsewhere.
pub(super) async fn next(engine: &Engine, request: &Request<'_>, tried: &[Arc<str>]) -> Result<Placement, Stuck> {
    let began = Instant::now();
    let (deadline, give_up) = (began + ADMISSION_TIMEOUT, began + budgets::ADMISSION_TIMEOUT);
    let mut has_asked = false;
    loop {
        // Before the try: what comes free during it is not missed.
        let (turn, limits_turn) = (engine.control.budgets.turn(), engine.control.limits.turn());
        let urgency = if Instant::now() < give_up { Urgency::CanWait } else { Urgency::Final };
        match request.choose(engine, tried, urgency) {
            Next::Use(placement) => return Ok(placement),
            Next::OverBudget(refusal) if refusal.is_final() || Instant::now() >= give_up => {
                return Err(Stuck::OverBudget(refusal));
            }
            Next::OverBudget(refusal) => engine.control.budgets.wait(&refusal, turn).await,
            Next::Wait { obstacle, .. } if obstacle.reason == WaitReason::DeploymentLimit => {
                let place = CallNeeds::of(request, tried);
                match place.verdict(engine, began) {
                    Verdict::Again if has_asked => engine.control.limits.wait(limits_turn).await,
                    Verdict::Again => {
                        has_asked = true;
                        place.wait(engine, limits_turn).await;
                    }
                    Verdict::Full(full) => {
                        let told = full.refused.told("", full.retry_after, engine.clock.now());
                        let obstacle = Obstacle::new(obstacle.reason, told);
                        return Err(Stuck::Wait { after: full.retry_after, obstacle, class: None });
                    }
                    Verdict::Unknown => return Err(Stuck::Unknown),
                }
            }
            Next::Wait { after, obstacle, class }
                if after > ADMISSION_TIMEOUT || Instant::now() >= deadline || request.is_exhausted(tried) =>
            {
                return Err(Stuck::Wait { after, obstacle, class });
            }
            Next::Wait { .. } => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}
