//! Fills the slots: hands the state of lanes, teams and flows to the allocator (`fill`), and takes limits and a
//! deployment for each request that it admits.

use std::{
    collections::{HashMap, hash_map::Entry},
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use admission::Admission;
use admission::{
    budgets::{ReservationRequest, Urgency},
    catalog::{ActiveCatalog, ActiveDeployment},
    fit::{self, Ceilings, rate_tokens},
    limits::{LimitRule, Waiter},
};
use domain::{
    Endpoint, Lane, Tags,
    catalog::LaneClass,
    waits::{Obstacle, WaitReason},
};
use scheduler::{
    Bill,
    allocator::{LaneState, ShareState, fill},
    backoff,
    lane_scheduler::Asking,
    slot_time::per_weight,
};
use store::claim::{FlowRow, ShareRow};

use super::{
    JobInfo,
    by_turns::{Turns, turns, waiting},
};
use crate::Engine;
use admission::route::{self, Backoff, Choice, Next};

/// The back-off of a flow whose route is not declared.
const NO_ROUTE_BACKOFF: Duration = Duration::from_secs(5);

/// An admitted request, with its deployment and its resources.
pub(super) struct Admitted {
    pub flow: usize,
    pub team: Arc<str>,
    pub deployment: Arc<ActiveDeployment>,
    pub admission: Admission,
    /// Slot-time that was put on its team's bill for it, in µs.
    pub charged: u64,
    /// Some request of its flow can never start: each of them is checked by these.
    pub ceilings: Option<Arc<Ceilings>>,
}

impl Admitted {
    /// Returns its resources without a call. If it was the probe of a deployment, the next call becomes the probe.
    pub fn give_back(self, engine: &Engine) {
        engine.control.health.abandoned(&self.deployment.name, &self.team, Instant::now());
        self.admission.release();
    }
}

#[derive(Default)]
pub(super) struct Decision {
    pub admitted: Vec<Admitted>,
    /// Flows that were refused: for how long, and why.
    pub refusals: HashMap<usize, (Duration, Obstacle)>,
    /// Where each share stands now, and what is known of its calls.
    pub virtual_times: Vec<i64>,
    pub costs: Vec<i64>,
    /// Where each lane was last served; absent when it was not.
    pub served_up_to: Vec<(Lane, i64)>,
}

/// `flows` are in the order of their shares, and of each share in its order of preference. `join_times`: where those stand at the
/// lowest, by lane, who come back after a rest.
pub(super) fn decide(
    engine: &Engine,
    catalog: &ActiveCatalog,
    shares: &[ShareRow],
    join_times: &HashMap<String, i64>,
    flows: &[FlowRow],
    jobs: &[Option<Arc<JobInfo>>],
    free: usize,
) -> Decision {
    let lanes: Vec<&Lane> = catalog.lanes.keys().collect();
    let flows_of = flows_of(shares, flows);
    let Turns { flow_of, mut supply, of_shares } = turns(flows, &flows_of, free);
    // Shares are only locked in lanes that are declared.
    let owners = shares.iter().filter_map(|s| Some((s.lane.parse::<Lane>().ok()?, s.team_id, s.cost.max(0) as u64)));
    let bills = engine.slots.bill(owners);
    let mut share_states = share_states(&lanes, shares, &bills, join_times, &of_shares);
    let mut lane_states = lane_states(engine, catalog, &lanes, &share_states, &supply);
    let in_use: Vec<usize> = lane_states.iter().map(|lane| lane.in_use).collect();
    let caller_rules: Vec<Vec<Arc<LimitRule>>> = jobs
        .iter()
        .map(|job| {
            job.as_ref()
                .map_or_else(Vec::new, |job| engine.control.limits.caller_rules(job.team_id, &job.lane, &job.key_id))
        })
        .collect();
    let mut charges = vec![0; flows.len()];
    share_states.iter().zip(flows_of).for_each(|(share, flows)| charges[flows].fill(share.cost));

    let mut decision = Decision { admitted: Vec::with_capacity(free), ..Decision::default() };
    // Requests that begin once budgets' money was granted for them.
    let mut lacking = 0;
    // Of flows that were refused: what their requests have to fit into, when some do not.
    let mut oversized: HashMap<usize, Option<Arc<Ceilings>>> = HashMap::new();
    let mut gate = |turn: usize| {
        let n = flow_of[turn];
        if decision.refusals.contains_key(&n) {
            return false;
        }
        let room = (free - decision.admitted.len()).saturating_sub(lacking).max(1);
        let requests = (waiting(&flows[n]).max(1) as usize).min(room);
        let refusal = match &jobs[n] {
            None => {
                let missing = format!("route {} is not declared", flows[n].route);
                (NO_ROUTE_BACKOFF, Obstacle::new(WaitReason::NoRoute, missing))
            }
            Some(job) => {
                match admit_or_shrink(engine, job, &flows[n], &caller_rules[n], requests, oversized.entry(n)) {
                    Ok(((deployment, admission), ceilings)) => {
                        let (team, charged) = (Arc::clone(&job.team), charges[n]);
                        let one = Admitted { flow: n, team, deployment, admission, charged, ceilings };
                        decision.admitted.push(one);
                        return true;
                    }
                    Err((pause, obstacle)) => {
                        if matches!(obstacle.reason, WaitReason::Budget | WaitReason::Guard | WaitReason::MaxCost) {
                            lacking += requests;
                        }
                        (if pause == backoff::LIMIT_BACKOFF { backoff::at_limit(charges[n]) } else { pause }, obstacle)
                    }
                }
            }
        };
        decision.refusals.insert(n, refusal);
        false
    };
    fill(engine.slots.total(), free, &mut lane_states, &mut share_states, &mut supply, &mut gate);
    for (lane, state) in lane_states.iter().enumerate() {
        engine.slots.claims(lanes[lane], state.in_use - in_use[lane]);
    }
    decision.virtual_times = share_states.iter().map(|share| share.virtual_time).collect();
    decision.costs = bills.iter().map(|bill| bill.known as i64).collect();
    let served = (0..lanes.len()).filter(|lane| lane_states[*lane].in_use > in_use[*lane]);
    decision.served_up_to = served.map(|lane| (lanes[lane].clone(), lane_states[lane].served_up_to)).collect();
    decision
}

fn share_states(
    lanes: &[&Lane],
    shares: &[ShareRow],
    bills: &[Bill],
    join_times: &HashMap<String, i64>,
    of_shares: &[Range<usize>],
) -> Vec<ShareState> {
    let lane_of = |share: &ShareRow| lanes.iter().position(|lane| lane.as_str() == share.lane).unwrap_or_default();
    let state = |((share, bill), flows): ((&ShareRow, &Bill), Range<usize>)| {
        let weight = share.weight.max(1) as u32;
        let virtual_time = share.level + per_weight(bill.due, weight);
        let join_time = join_times.get(&share.lane).copied().filter(|_| share.woken).unwrap_or(virtual_time);
        let virtual_time = virtual_time.max(join_time);
        ShareState { lane: lane_of(share), weight, virtual_time, cost: bill.cost, flows }
    };
    shares.iter().zip(bills).zip(of_shares.iter().cloned()).map(state).collect()
}

/// The range of flows of each share, in the order of the shares.
pub(super) fn flows_of(shares: &[ShareRow], flows: &[FlowRow]) -> Vec<Range<usize>> {
    let mut end = 0;
    let flows_of = |share: &ShareRow| {
        let first = end;
        let mine = |flow: &&FlowRow| flow.lane == share.lane && flow.team_id == share.team_id;
        end += flows[first..].iter().take_while(mine).count();
        first..end
    };
    shares.iter().map(flows_of).collect()
}

fn lane_states(
    engine: &Engine,
    catalog: &ActiveCatalog,
    lanes: &[&Lane],
    shares: &[ShareState],
    supply: &[usize],
) -> Vec<LaneState> {
    let total = engine.slots.total();
    let asking: Vec<Asking<Lane>> = lanes
        .iter()
        .enumerate()
        .map(|(n, lane)| {
            let rule = &catalog.lanes[*lane];
            Asking {
                lane: (*lane).clone(),
                strict: rule.class == LaneClass::Strict,
                weight: rule.weight,
                wants: shares.iter().any(|share| share.lane == n && supply[share.flows.clone()].iter().any(|n| *n > 0)),
                most: engine.slots.most(rule),
                max_wait: rule.aging().map(|after| after.as_micros() as u64),
            }
        })
        .collect();
    let standings = engine.slots.lanes(&asking);
    // One slot is nobody's, so that a small replica serves all lanes.
    let mut reservable = total.saturating_sub(1);
    asking
        .iter()
        .zip(standings)
        .map(|(asked, standing)| {
            let percent = usize::from(catalog.lanes[&asked.lane].reserve_percent);
            let reserve = (total * percent).div_ceil(100).min(reservable);
            reservable -= reserve;
            LaneState {
                strict: asked.strict,
                weight: asked.weight,
                reserve,
                most: asked.most.map(|most| most - standing.kept.min(most)),
                in_use: standing.in_use,
                calls: standing.calls,
                virtual_time: standing.virtual_time,
                overdue: standing.overdue,
                served_up_to: standing.served_up_to,
            }
        })
        .collect()
}

/// The deployment of a request, and its resources.
type Boarding = (Arc<ActiveDeployment>, Admission);

/// The back-off of a refused flow, and its reason.
type Refusal = (Duration, Obstacle);

/// A flow asks for the size of its largest request. If a limit or a budget was lowered below that, the flow asks for
/// the whole limit instead: requests that fit into it start, and the others fail when they are examined.
fn admit_or_shrink(
    engine: &Engine,
    job: &JobInfo,
    flow: &FlowRow,
    rules: &[Arc<LimitRule>],
    requests: usize,
    oversized: Entry<'_, usize, Option<Arc<Ceilings>>>,
) -> Result<(Boarding, Option<Arc<Ceilings>>), Refusal> {
    let size = (i64::from(flow.max_in), flow.max_out.map(i64::from));
    let ceilings = || job.ceilings(engine, engine.clock.now());
    // A limit in tokens lets through what is larger than all of it, once it is full; see `LimitRule::amount`.
    let known = oversized.or_insert_with(|| {
        let tokens = (rate_tokens(size.0, size.1), &*job.team);
        let fits = fit::check_rates(&engine.control.limits, rules, &job.route, job.endpoint, &job.lane, tokens);
        fits.is_err().then(|| Arc::new(ceilings()))
    });
    if known.is_none() {
        match admit(engine, job, flow, rules, requests, None) {
            Ok(placed) => return Ok((placed, None)),
            Err(refused) => {
                // A budget may be smaller than it.
                let ceilings = ceilings();
                if ceilings.check(size.0, size.1).is_ok() {
                    return Err(refused);
                }
                *known = Some(Arc::new(ceilings));
            }
        }
    }
    admit(engine, job, flow, rules, requests, known.as_deref()).map(|placed| (placed, known.clone()))
}

/// `requests`: how many of the flow could start, this one among them. `shrunk`: it asks for no more than these have.
fn admit(
    engine: &Engine,
    job: &JobInfo,
    flow: &FlowRow,
    rules: &[Arc<LimitRule>],
    requests: usize,
    shrunk: Option<&Ceilings>,
) -> Result<Boarding, Refusal> {
    let tokens = rate_tokens(i64::from(flow.max_in), flow.max_out.map(i64::from));
    let tokens = shrunk.map_or(tokens, |ceilings| ceilings.shrink(tokens));
    let ask = job.ask(i64::from(flow.max_in), flow.max_out.map(i64::from));
    let (lane, reserves) = (&job.lane, &job.catalog.reserves);
    let caller = engine.control.limits.try_take(rules, tokens).map_err(|refused| {
        // What it lacks comes in one round.
        if let Some(first) = job.route.candidates(job.endpoint).next() {
            engine.control.limits.want_deployment(&first.name, lane, reserves, tokens, Waiter::Job);
        }
        (backoff::LIMIT_BACKOFF, refused.obstacle(&job.team))
    })?;
    let now = engine.clock.now();
    let choice = Choice {
        route: &job.route,
        endpoint: job.endpoint,
        tried: &[],
        lane,
        reserves,
        tokens,
        ask: &ReservationRequest { is_oversized: shrunk.is_some(), ..ask },
        now,
        urgency: Urgency::CanWait,
    };
    match route::next(choice, &engine.control.health, &engine.control.limits, &engine.control.budgets) {
        Next::Use(placement) => Ok((Arc::clone(&placement.deployment), Admission::placed(caller, placement))),
        Next::OverBudget(refusal) => {
            caller.cancel();
            engine.control.budgets.missed(&refusal, job.job_id, flow.flow_id, requests);
            let pause = if refusal.is_final() { refusal.pause() } else { backoff::LIMIT_BACKOFF };
            Err((pause, refusal.obstacle()))
        }
        Next::Wait { after, obstacle, .. } => {
            caller.cancel();
            Err((after, obstacle))
        }
    }
}

pub(super) fn job_info(catalog: &Arc<ActiveCatalog>, flow: &FlowRow) -> Option<Arc<JobInfo>> {
    let lane: Lane = flow.lane.parse().ok()?;
    let rule = catalog.lanes.get(&lane)?;
    let (first, longest) = rule.backoff();
    Some(Arc::new(JobInfo {
        job_id: flow.job_id,
        team_id: flow.team_id,
        team: flow.team.as_str().into(),
        key_id: flow.key_id.as_str().into(),
        backoff: Backoff { first, longest },
        lane,
        tags: Arc::new(serde_json::from_value::<Tags>(flow.tags.clone()).ok()?),
        // One that this version cannot read lets nothing pass.
        max_cost: flow.max_cost.as_deref().map(|most| most.parse().unwrap_or(0)),
        submitted_at: flow.submitted_at,
        max_attempts: flow.max_attempts,
        deadline_at: flow.deadline_at,
        endpoint: Endpoint::from_code(flow.endpoint)?,
        route: Arc::clone(catalog.route(&flow.route)?),
        catalog: Arc::clone(catalog),
    }))
}
