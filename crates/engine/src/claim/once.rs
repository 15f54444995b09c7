//! One claim: read what waits, decide, write. One transaction of separate statements; see `store::claim`.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use domain::{
    AttemptReason, Endpoint, Lane, Tags,
    catalog::LaneClass,
    waits::{Obstacle, WaitReason},
};
use store::{
    claim::{Body, FlowRow, NewLeases, RetryRow, ShareRow, Verdicts},
    lease::LeaseKey,
};
use tracing::warn;

use super::{
    Found, JobInfo, Request,
    fill::{FlowState, LaneState, ShareState, fill},
};
use crate::{
    Engine,
    catalog::{ActiveCatalog, ActiveDeployment},
    limits::{Permit, Rule},
    route::{self, Backoff, Choice, Next},
    settle::Hold,
};

/// Shares of a lane looked at by one claim, and flows of a share.
const SHARES: i64 = 4;
const FLOWS: i64 = 8;
/// A flow whose route is not declared is looked at again after this.
const NO_ROUTE: Duration = Duration::from_secs(5);

/// A request that was admitted: where it goes, and what it holds.
struct Admitted {
    flow: usize,
    deployment: Arc<ActiveDeployment>,
    caller: Permit,
    at_deployment: Permit,
}

pub(super) async fn claim(engine: &Engine) -> store::Result<(Vec<Arc<Request>>, Found)> {
    let catalog = engine.catalog.get();
    let lanes: Vec<&Lane> = catalog.lanes.keys().collect();
    let names: Vec<String> = lanes.iter().map(|lane| lane.to_string()).collect();
    let free = engine.slots.free();

    let mut tx = engine.pools.work.begin().await?;
    let shares = store::claim::lock_shares(&mut tx, &names, SHARES).await?;
    if shares.is_empty() {
        let wakes = store::claim::next_wake(&mut tx, &names).await?;
        tx.rollback().await?;
        return Ok((Vec::new(), nothing(engine, wakes)));
    }
    let flows = store::claim::flows(&mut tx, &shares, FLOWS, free as i64).await?;
    let jobs: Vec<Option<Arc<JobInfo>>> = flows.iter().map(|flow| job_info(&catalog, flow)).collect();
    let now = engine.clock.now();

    let (admitted, refusals) = decide(engine, &catalog, &lanes, &shares, &flows, &jobs, free);
    let mut granted = vec![0i64; flows.len()];
    admitted.iter().for_each(|one| granted[one.flow] += 1);

    let retries = take_retries(&mut tx, &flows, &granted).await?;
    let bodies = read_bodies(&mut tx, &flows, &granted, &retries).await?;
    let mut verdicts = Verdicts::default();
    let mut advances = vec![0i32; flows.len()];
    for (n, flow) in flows.iter().enumerate() {
        let retried = retries.iter().filter(|r| r.flow_id == flow.flow_id).count() as i64;
        advances[n] = (granted[n] - retried).max(0) as i32;
        let exhausted = flow.next_pos + advances[n] >= flow.tail_pos && retried >= flow.due_retries;
        let refusal = refusals.get(&n);
        verdicts.flow_ids.push(flow.flow_id);
        verdicts.advances.push(advances[n]);
        verdicts.flow_asleep.push(exhausted);
        verdicts.flow_blocked_until.push(refusal.map(|(after, _)| now + *after));
        verdicts.flow_reasons.push(refusal.map(|(_, obstacle)| obstacle.stored()));
    }
    judge_shares(&mut tx, &shares, &flows, &mut verdicts, now).await?;
    let requests = requests(&flows, &jobs, admitted, retries, bodies, now, engine);
    store::claim::grant(&mut tx, engine.worker_id, &verdicts, &leases(&requests)).await?;
    engine.live.insert(requests.iter().map(|request| request.key));
    if let Err(error) = tx.commit().await {
        // It may have happened all the same: then the heartbeat finds leases that nobody here knows of, and hands them back.
        engine.live.remove(requests.iter().map(|request| &request.key));
        return Err(error);
    }

    let started: Vec<i64> = flows
        .iter()
        .zip(&advances)
        .filter(|(flow, n)| flow.next_pos == 0 && **n > 0)
        .map(|(flow, _)| flow.job_id)
        .collect();
    if !started.is_empty()
        && let Err(error) = mark_running(engine, &started).await
    {
        // What was claimed is ours by now, and has to be run whatever the jobs' states say.
        warn!(%error, "Jobs that began to run could not be marked as running");
    }
    let found = match requests.len() {
        0 => nothing(
            engine,
            verdicts.flow_blocked_until.iter().chain(&verdicts.share_blocked_until).flatten().min().copied(),
        ),
        n => Found::Some(n),
    };
    Ok((requests, found))
}

async fn mark_running(engine: &Engine, jobs: &[i64]) -> store::Result<()> {
    store::claim::mark_running(&mut *engine.pools.work.acquire().await?, jobs).await
}

fn nothing(engine: &Engine, wakes: Option<DateTime<Utc>>) -> Found {
    let Some(at) = wakes else { return Found::Nothing { look_again: Duration::MAX } };
    match (at - engine.clock.now()).to_std() {
        Ok(after) if after > Duration::from_millis(1) => Found::Nothing { look_again: after },
        _ => Found::Contended,
    }
}

fn job_info(catalog: &Arc<ActiveCatalog>, flow: &FlowRow) -> Option<Arc<JobInfo>> {
    let lane: Lane = flow.lane.parse().ok()?;
    let rule = catalog.lanes.get(&lane)?;
    let (first, longest) = rule.backoff();
    Some(Arc::new(JobInfo {
        job_id: flow.job_id,
        team_id: flow.team_id,
        team: flow.team.as_str().into(),
        key_id: flow.key_id.as_str().into(),
        strict: rule.reserve_percent > 0,
        backoff: Backoff { first, longest },
        lane,
        tags: Arc::new(serde_json::from_value::<Tags>(flow.tags.clone()).ok()?),
        submitted_at: flow.submitted_at,
        max_attempts: flow.max_attempts,
        deadline_at: flow.deadline_at,
        endpoint: Endpoint::from_code(flow.endpoint)?,
        route: Arc::clone(catalog.route(&flow.route)?),
        catalog: Arc::clone(catalog),
    }))
}

/// Fills the slots; each request that is let through has its limits and its deployment. Refused flows come with the time
/// after which to ask again, and why.
fn decide(
    engine: &Engine,
    catalog: &ActiveCatalog,
    lanes: &[&Lane],
    shares: &[ShareRow],
    flows: &[FlowRow],
    jobs: &[Option<Arc<JobInfo>>],
    free: usize,
) -> (Vec<Admitted>, HashMap<usize, (Duration, Obstacle)>) {
    let in_use = engine.slots.in_use();
    let total = engine.slots.total();
    let lane_states: Vec<LaneState> = lanes
        .iter()
        .map(|lane| {
            let rule = &catalog.lanes[*lane];
            LaneState {
                strict: rule.class == LaneClass::Strict,
                weight: rule.weight,
                reserve: (total * usize::from(rule.reserve_percent)).div_ceil(100),
                // At least one, so that a small replica serves it at all.
                most: (total * usize::from(rule.max_percent) / 100).max(1),
                aged: rule.aging().is_some_and(|after| engine.slots.waited(lane) >= after),
                in_use: in_use.by_lane.get(*lane).copied().unwrap_or(0),
            }
        })
        .collect();
    let position = |name: &str| lanes.iter().position(|lane| lane.as_str() == name).unwrap_or_default();
    let share_states: Vec<ShareState> = shares
        .iter()
        .map(|share| {
            let lane = position(&share.lane);
            let used = in_use.by_share.get(&(lanes[lane].clone(), share.team_id)).copied().unwrap_or(0);
            ShareState { lane, weight: share.weight.max(1) as u32, in_use: used }
        })
        .collect();
    let flow_states: Vec<FlowState> = flows
        .iter()
        .map(|flow| FlowState {
            share: shares.iter().position(|s| s.lane == flow.lane && s.team_id == flow.team_id).unwrap_or_default(),
            priority: flow.priority,
            supply: (flow.due_retries + i64::from(flow.tail_pos - flow.next_pos)).clamp(0, free as i64) as usize,
        })
        .collect();
    let caller_rules: Vec<Vec<Arc<Rule>>> = jobs
        .iter()
        .map(|job| {
            job.as_ref().map_or_else(Vec::new, |job| engine.limits.caller_rules(job.team_id, &job.lane, &job.key_id))
        })
        .collect();

    let (mut admitted, mut refusals) = (Vec::with_capacity(free), HashMap::new());
    let mut gate = |n: usize| {
        let refusal = match &jobs[n] {
            None => {
                let missing = format!("route {} is not declared", flows[n].route);
                (NO_ROUTE, Obstacle::new(WaitReason::NoRoute, missing))
            }
            Some(job) => match admit(engine, job, &flows[n], &caller_rules[n]) {
                Ok((deployment, caller, at_deployment)) => {
                    admitted.push(Admitted { flow: n, deployment, caller, at_deployment });
                    return true;
                }
                Err(refusal) => refusal,
            },
        };
        refusals.insert(n, refusal);
        false
    };
    fill(total, free, &lane_states, &share_states, &flow_states, &mut gate);
    (admitted, refusals)
}

fn admit(
    engine: &Engine,
    job: &JobInfo,
    flow: &FlowRow,
    rules: &[Arc<Rule>],
) -> Result<(Arc<ActiveDeployment>, Permit, Permit), (Duration, Obstacle)> {
    let tokens = i64::from(flow.max_in) + i64::from(flow.max_out.unwrap_or(0));
    let caller =
        engine.limits.try_take(rules, tokens).map_err(|refused| (route::LIMIT_PAUSE, refused.obstacle(&job.team)))?;
    let choice = Choice { route: &job.route, endpoint: job.endpoint, tried: &[], strict: job.strict, tokens };
    match route::next(choice, &engine.health, &engine.limits) {
        Next::Use(deployment, permit) => Ok((deployment, caller, permit)),
        Next::Wait { after, obstacle } => {
            caller.cancel();
            Err((after, obstacle))
        }
    }
}

async fn take_retries(
    conn: &mut store::PgConnection,
    flows: &[FlowRow],
    granted: &[i64],
) -> store::Result<Vec<RetryRow>> {
    let (ids, counts): (Vec<i64>, Vec<i64>) = flows
        .iter()
        .zip(granted)
        .map(|(flow, n)| (flow.flow_id, (*n).min(flow.due_retries)))
        .filter(|(_, n)| *n > 0)
        .unzip();
    if ids.is_empty() { Ok(Vec::new()) } else { store::claim::take_retries(conn, &ids, &counts).await }
}

/// The bodies of what was granted: a run behind each cursor, and the retries' one by one.
async fn read_bodies(
    conn: &mut store::PgConnection,
    flows: &[FlowRow],
    granted: &[i64],
    retries: &[RetryRow],
) -> store::Result<HashMap<(i64, i32), Body>> {
    let (mut ids, mut from, mut counts) = (Vec::new(), Vec::new(), Vec::new());
    for (flow, n) in flows.iter().zip(granted) {
        let fresh = n - retries.iter().filter(|r| r.flow_id == flow.flow_id).count() as i64;
        if fresh > 0 {
            ids.push(flow.flow_id);
            from.push(flow.next_pos);
            counts.push(fresh as i32);
        }
    }
    for retry in retries {
        ids.push(retry.flow_id);
        from.push(retry.pos);
        counts.push(1);
    }
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let bodies = store::claim::bodies(conn, &ids, &from, &counts).await?;
    Ok(bodies.into_iter().map(|body| ((body.flow_id, body.pos), body)).collect())
}

/// Shares with nothing to run sleep until their first flow may run again, or until something wakes them.
async fn judge_shares(
    conn: &mut store::PgConnection,
    shares: &[ShareRow],
    flows: &[FlowRow],
    verdicts: &mut Verdicts,
    now: DateTime<Utc>,
) -> store::Result<()> {
    let idle: Vec<&ShareRow> =
        shares.iter().filter(|s| !flows.iter().any(|f| f.lane == s.lane && f.team_id == s.team_id)).collect();
    let wakes = if idle.is_empty() { HashMap::new() } else { store::claim::share_wakes(conn, &idle).await? };
    for share in shares {
        let wake = wakes.get(&(share.lane.clone(), share.team_id));
        verdicts.share_lanes.push(share.lane.clone());
        verdicts.share_teams.push(share.team_id);
        // A flow that could run but was not read is held by somebody else for a moment.
        verdicts.share_blocked_until.push(wake.copied().flatten().map(|at| at.max(now + super::CONTENDED)));
        verdicts.share_asleep.push(wake.is_some_and(Option::is_none));
    }
    Ok(())
}

fn requests(
    flows: &[FlowRow],
    jobs: &[Option<Arc<JobInfo>>],
    admitted: Vec<Admitted>,
    retries: Vec<RetryRow>,
    mut bodies: HashMap<(i64, i32), Body>,
    now: DateTime<Utc>,
    engine: &Engine,
) -> Vec<Arc<Request>> {
    let mut next_pos: Vec<i32> = flows.iter().map(|flow| flow.next_pos).collect();
    let mut retries_of: HashMap<i64, Vec<RetryRow>> = HashMap::new();
    for retry in retries {
        retries_of.entry(retry.flow_id).or_default().push(retry);
    }
    let mut requests = Vec::with_capacity(admitted.len());
    for one in admitted {
        let flow = &flows[one.flow];
        let Some(job) = &jobs[one.flow] else { continue };
        let retry = retries_of.get_mut(&flow.flow_id).and_then(Vec::pop);
        let pos = retry.as_ref().map_or(next_pos[one.flow], |retry| retry.pos);
        if retry.is_none() {
            next_pos[one.flow] += 1;
        }
        let Some(body) = bodies.remove(&(flow.flow_id, pos)) else { continue };
        let slot = engine.slots.take(&job.lane, job.team_id);
        requests.push(Arc::new(Request::new(
            LeaseKey { flow_id: flow.flow_id, pos, epoch: retry.as_ref().map_or(1, |r| r.epoch) },
            Arc::clone(job),
            body,
            one.deployment,
            retry.as_ref().map_or(AttemptReason::Primary, |_| AttemptReason::Retry),
            retry.as_ref().map_or(1, |r| r.attempt_no + 1),
            retry.as_ref().map_or(0, |r| r.failures),
            now,
            Hold { slot: Some(slot), caller: one.caller, deployment: one.at_deployment },
        )));
    }
    requests
}

fn leases(requests: &[Arc<Request>]) -> NewLeases {
    let mut leases = NewLeases::default();
    for request in requests {
        let attempt = request.attempt();
        leases.flow_ids.push(request.key.flow_id);
        leases.positions.push(request.key.pos);
        leases.epochs.push(request.key.epoch);
        leases.attempt_nos.push(attempt.no);
        leases.attempt_ids.push(attempt.id);
        leases.deployments.push(attempt.deployment.name.to_string());
        leases.failures.push(request.failures);
    }
    leases
}
