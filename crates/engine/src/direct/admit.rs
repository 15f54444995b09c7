//! Admission of a synchronous call: route, lane, price, and the caller's own caps.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use domain::{
    AttemptReason, Endpoint, JobId, Lane, RequestId, catalog::LaneRule, ids::attempt_id, line::CallBody,
    line::estimate_tokens, waits::Obstacle,
};

use super::{Direct, DirectError};
use crate::{
    Engine,
    admit::Caller,
    budgets::{self, Ask, Pressing, Refusal, Reservation},
    catalog::{ActiveCatalog, ActiveDeployment, ActiveRoute},
    claim::CallGuard,
    limits::{Permit, Rule},
    meter::{Attempt, Subject},
    route::{self, Choice, Next},
};

/// A grant comes within milliseconds if there is any; longer than this a caller is not kept waiting.
const PATIENCE: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(4);

pub(super) struct Admitted {
    pub subject: Subject,
    pub endpoint: Endpoint,
    pub body: Bytes,
    pub stream: bool,
    pub route: Arc<ActiveRoute>,
    pub catalog: Arc<ActiveCatalog>,
    pub permit: Permit,
    /// It counts in its lane until it has ended.
    pub _in_lane: CallGuard,
    pub ask: Ask,
}

/// Why no deployment was found.
pub(super) enum Stuck {
    Wait(Duration, Obstacle),
    Broke(Refusal),
}

impl Admitted {
    pub fn text(&self) -> &str {
        // Admission parsed it as a str.
        std::str::from_utf8(&self.body).unwrap_or_default()
    }
    pub fn tokens(&self) -> i64 {
        self.subject.est_in + self.subject.max_out.unwrap_or(0)
    }
}

pub(super) async fn admit(engine: &Engine, caller: &Caller, direct: &Direct) -> Result<Admitted, DirectError> {
    let text = std::str::from_utf8(&direct.body).map_err(|_| DirectError::Invalid("the body is not UTF-8".into()))?;
    let call = CallBody::parse(direct.endpoint, text).map_err(|e| DirectError::Invalid(e.to_string()))?;
    let catalog = engine.catalog.get();
    let route = catalog
        .route(&call.model)
        .cloned()
        .ok_or_else(|| DirectError::UnknownModel(call.model.chars().take(128).collect()))?;
    if !route.is_priced() {
        return Err(DirectError::Unpriced(route.name.to_string()));
    }
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
    let now = engine.clock.now();
    let subject = Subject {
        request_id: RequestId { job: JobId::new(now), line: 0 }.to_string(),
        job_id: None,
        custom_id: None,
        team: Arc::clone(&caller.team),
        tags: Arc::new(direct.tags.clone()),
        key_id: Arc::clone(&caller.key_id),
        lane: lane.clone(),
        model: Arc::clone(&route.name),
        submitted_at: now,
        est_in: estimate_tokens(text.len()),
        max_out: call.max_output,
    };
    let ask = Ask {
        team: Arc::clone(&subject.team),
        key: Arc::clone(&subject.key_id),
        job: None,
        max_cost: None,
        tags: Arc::clone(&subject.tags),
        endpoint: direct.endpoint,
        est_in: subject.est_in,
        max_out: subject.max_out,
    };
    let rules = engine.limits.caller_rules(caller.team_id, &lane, &caller.key_id);
    let until = Instant::now() + PATIENCE;
    let in_lane = enter(engine, &lane, &catalog.lanes[&lane], until).await?;
    let permit = take(engine, caller, &rules, subject.est_in + subject.max_out.unwrap_or(0), until).await?;
    Ok(Admitted {
        subject,
        endpoint: direct.endpoint,
        stream: call.stream,
        body: direct.body.clone(),
        route,
        catalog,
        permit,
        _in_lane: in_lane,
        ask,
    })
}

/// Takes a place in the lane, with some patience when the lane has all that it may have.
async fn enter(engine: &Engine, lane: &Lane, rule: &LaneRule, until: Instant) -> Result<CallGuard, DirectError> {
    let (most, mut again) = (engine.slots.most(rule), false);
    loop {
        if let Some(guard) = engine.slots.enter(lane, most, again) {
            return Ok(guard);
        }
        if Instant::now() >= until {
            let what = format!("the maximum share of lane {lane}, {} % of this replica's slots,", rule.max_percent);
            return Err(DirectError::Limited { what, retry_after: Duration::from_secs(1) });
        }
        again = true;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Takes from the caller's caps, with some patience for a grant to arrive.
async fn take(
    engine: &Engine,
    caller: &Caller,
    rules: &[Arc<Rule>],
    tokens: i64,
    until: Instant,
) -> Result<Permit, DirectError> {
    loop {
        match engine.limits.try_take(rules, tokens) {
            Ok(permit) => return Ok(permit),
            Err(refused) if Instant::now() >= until => {
                return Err(DirectError::Limited {
                    what: refused.obstacle(&caller.team).detail,
                    retry_after: Duration::from_secs(1),
                });
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// The next deployment to try, with some patience for its limits and for money that others hold.
pub(super) async fn next(
    engine: &Engine,
    admitted: &Admitted,
    tried: &[Arc<str>],
) -> Result<(Arc<ActiveDeployment>, Permit, Reservation), Stuck> {
    let began = Instant::now();
    let (deadline, give_up) = (began + PATIENCE, began + budgets::PATIENCE);
    loop {
        // Before the try: what comes free during it is not missed.
        let turn = engine.budgets.turn();
        let choice = Choice {
            route: &admitted.route,
            endpoint: admitted.endpoint,
            tried,
            lane: &admitted.subject.lane,
            reserves: &admitted.catalog.reserves,
            tokens: admitted.tokens(),
            ask: &admitted.ask,
            now: engine.clock.now(),
            pressing: if Instant::now() < give_up { Pressing::Patient } else { Pressing::Now },
        };
        match route::next(choice, &engine.health, &engine.limits, &engine.budgets) {
            Next::Use(deployment, permit, reservation) => return Ok((deployment, permit, reservation)),
            Next::Broke(refusal) if refusal.is_final() || Instant::now() >= give_up => {
                return Err(Stuck::Broke(refusal));
            }
            Next::Broke(refusal) => engine.budgets.wait(&refusal, turn).await,
            Next::Wait { after, obstacle }
                if after > PATIENCE || Instant::now() >= deadline || exhausted(admitted, tried) =>
            {
                return Err(Stuck::Wait(after, obstacle));
            }
            Next::Wait { .. } => tokio::time::sleep(PAUSE).await,
        }
    }
}

fn exhausted(admitted: &Admitted, tried: &[Arc<str>]) -> bool {
    route::candidates(&admitted.route, admitted.endpoint).all(|d| tried.iter().any(|t| **t == *d.name))
}

/// The attempt that is about to be made on a deployment, with what was held for it.
pub(super) fn attempt(
    engine: &Engine,
    deployment: Arc<ActiveDeployment>,
    reservation: &Reservation,
    tried: &[Arc<str>],
) -> Attempt {
    Attempt {
        id: attempt_id(engine.clock.now()),
        no: tried.len() as i32 + 1,
        reason: if tried.is_empty() { AttemptReason::Primary } else { AttemptReason::Fallback },
        fallback_from: tried.last().cloned(),
        deployment,
        reserved_at: reservation.at().unwrap_or_else(|| engine.clock.now()),
    }
}
