//! One claim: read what waits, decide, write. One transaction of separate statements; see `store::claim`.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use store::{
    claim::{Body, FlowRow, RetryRow, ShareRow},
    lease::{LeaseKey, NewLease},
};
use tracing::{error, warn};

use super::{
    ClaimOutcome, JobInfo, Request,
    outcome::{self, Verdict},
    pending_claim::Uncommitted,
    request::Try,
    selection::{self, Admitted, decide, job_info},
};
use crate::Engine;

/// By flow and position.
type Bodies = foldhash::HashMap<(i64, i32), Body>;

/// Flows of a share that one claim examines, and the most of all shares when those do not fill the slots or the scan is
/// wider.
const FLOWS: i64 = 8;
const MOST_FLOWS: i64 = 4_096;
/// Shares of a lane that one claim examines: more of them divide its slots more evenly, fewer leave more to other
/// replicas.
const FEWEST_SHARES: usize = 4;
const MOST_SHARES: usize = 16;

/// Claims requests for the free slots. `scan_factor`: how many times as many shares and flows as usual are examined,
/// after claims that found too little.
pub(super) async fn claim(engine: &Engine, scan_factor: i64) -> store::Result<(Vec<Arc<Request>>, ClaimOutcome)> {
    let catalog = engine.catalog.get();
    let names: Vec<String> = catalog.lanes.keys().map(|lane| lane.to_string()).collect();
    let free = engine.slots.free();
    let most_shares = (free / 2).clamp(FEWEST_SHARES, MOST_SHARES) as i64 * scan_factor;

    let mut tx = engine.pools.work.begin().await?;
    let shares = store::claim::lock_shares(&mut tx, &names, most_shares).await?;
    if shares.is_empty() {
        let wakes = store::claim::next_wake(&mut tx, &names).await?;
        tx.rollback().await?;
        return Ok((Vec::new(), nothing(engine, wakes)));
    }
    let per_share = MOST_FLOWS / shares.len() as i64;
    let enough_flows = (FLOWS * scan_factor).min(per_share).max(FLOWS);
    let most_flows = (free as i64).min(per_share).max(enough_flows);
    let mut flows = store::claim::flows(&mut tx, &shares, enough_flows, most_flows, free as i64).await?;
    sort_by_share(&mut flows, &shares);
    let join_times = match shares.iter().any(|share| share.woken) {
        true => store::claim::join_times(&mut tx, &names).await?,
        false => HashMap::new(),
    };
    let jobs: Vec<Option<Arc<JobInfo>>> = flows.iter().map(|flow| job_info(&catalog, flow)).collect();
    let now = engine.clock.now();

    let mut decision = decide(engine, &catalog, &shares, &join_times, &flows, &jobs, free);
    let mut held = Uncommitted::new(engine, std::mem::take(&mut decision.admitted));
    let mut granted = vec![0i64; flows.len()];
    held.admitted.iter().for_each(|one| granted[one.flow] += 1);

    let retries = take_retries(&mut tx, &flows, &granted).await?;
    let bodies = read_bodies(&mut tx, &flows, &granted, &retries).await?;
    let of_flows = outcome::flows(&flows, &granted, &retries, &decision, now);
    let verdicts = outcome::all(&mut tx, &shares, &flows, &of_flows, &decision, enough_flows, now).await?;
    let admitted = std::mem::take(&mut held.admitted);
    held.requests = requests(&flows, &jobs, admitted, retries, bodies, now, engine);
    store::claim::grant(&mut tx, &verdicts).await?;
    let leases = held.requests.iter().map(|request| NewLease {
        key: request.key,
        attempt_no: request.first.no,
        attempt_id: request.first.id,
        deployment: &request.first.deployment.name,
        failures: request.failures,
    });
    store::lease::insert(&mut tx, engine.worker_id, leases).await?;
    engine.live.insert(held.requests.iter().map(|request| request.key));
    tx.commit().await?;
    let requests = held.committed();
    decision.served_up_to.iter().for_each(|(lane, served_up_to)| engine.slots.served(lane, *served_up_to));

    let started = started(&flows, &of_flows);
    if !started.is_empty()
        && let Err(error) = mark_running(engine, &started).await
    {
        // What was claimed is ours by now, and has to be run whatever the jobs' states say.
        warn!(%error, "Jobs that began to run could not be marked as running");
    }
    let of_lane = |lane: &String| shares.iter().filter(|share| share.lane == *lane).count() as i64;
    // Of a lane that is at its most there is more, but nothing that could run.
    let shallow = selection::flows_of(&shares, &flows)
        .into_iter()
        .any(|flows| flows.len() as i64 >= enough_flows && of_flows[flows].iter().all(Verdict::rests));
    let found = match requests.len() {
        0 if !decision.refusals.is_empty() && names.iter().any(|lane| of_lane(lane) == most_shares) => {
            ClaimOutcome::AllBlocked
        }
        0 => nothing(
            engine,
            verdicts.flow_blocked_until.iter().chain(&verdicts.share_blocked_until).flatten().min().copied(),
        ),
        n if n < free / 2 && shallow => ClaimOutcome::MoreJobs,
        _ => ClaimOutcome::Some,
    };
    Ok((requests, found))
}

/// In the order of the shares, which says nothing of its own; a share's flows stay as they were read.
fn sort_by_share(flows: &mut [FlowRow], shares: &[ShareRow]) {
    let place: HashMap<(&str, i64), usize> =
        shares.iter().enumerate().map(|(n, share)| ((share.lane.as_str(), share.team_id), n)).collect();
    flows.sort_by_key(|flow| {
        let share = place.get(&(flow.lane.as_str(), flow.team_id)).copied();
        (share, std::cmp::Reverse(flow.priority), flow.held_since, flow.flow_id)
    });
}

/// The jobs whose first requests were claimed.
fn started(flows: &[FlowRow], verdicts: &[Verdict]) -> Vec<i64> {
    let is_first = |(flow, verdict): &(&FlowRow, &Verdict)| flow.next_pos == 0 && verdict.advance > 0;
    flows.iter().zip(verdicts).filter(is_first).map(|(flow, _)| flow.job_id).collect()
}

async fn mark_running(engine: &Engine, jobs: &[i64]) -> store::Result<()> {
    store::claim::mark_running(&mut *engine.pools.work.acquire().await?, jobs).await
}

fn nothing(engine: &Engine, wakes: Option<DateTime<Utc>>) -> ClaimOutcome {
    let Some(at) = wakes else { return ClaimOutcome::Nothing { look_again: Duration::MAX } };
    match (at - engine.clock.now()).to_std() {
        Ok(after) if after > Duration::from_millis(1) => ClaimOutcome::Nothing { look_again: after },
        _ => ClaimOutcome::Contended,
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
) -> store::Result<Bodies> {
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
        return Ok(Bodies::default());
    }
    let bodies = store::claim::bodies(conn, &ids, &from, &counts).await?;
    Ok(bodies.into_iter().map(|body| ((body.flow_id, body.pos), body)).collect())
}

fn requests(
    flows: &[FlowRow],
    jobs: &[Option<Arc<JobInfo>>],
    admitted: Vec<Admitted>,
    retries: Vec<RetryRow>,
    mut bodies: Bodies,
    now: DateTime<Utc>,
    engine: &Engine,
) -> Vec<Arc<Request>> {
    let mut next_pos: Vec<i32> = flows.iter().map(|flow| flow.next_pos).collect();
    let mut retries_of: HashMap<i64, Vec<RetryRow>> = HashMap::new();
    for retry in retries {
        retries_of.entry(retry.flow_id).or_default().push(retry);
    }
    let mut requests = Vec::with_capacity(admitted.len());
    for mut one in admitted {
        let flow = &flows[one.flow];
        let Some(job) = &jobs[one.flow] else { continue };
        let retry = retries_of.get_mut(&flow.flow_id).and_then(Vec::pop);
        let pos = retry.as_ref().map_or(next_pos[one.flow], |retry| retry.pos);
        if retry.is_none() {
            next_pos[one.flow] += 1;
        }
        let Some(body) = bodies.remove(&(flow.flow_id, pos)) else {
            error!(job.id = flow.job_id, flow.flow_id, pos, "A request's body is missing; it cannot be called");
            one.give_back(engine);
            continue;
        };
        let size = (i64::from(body.est_in), body.max_out.map(i64::from));
        let never_fits = one.ceilings.and_then(|ceilings| ceilings.check(size.0, size.1).err());
        one.admission.occupy(engine.slots.take(&job.lane, job.team_id, one.charged));
        let mut request = Request::new(
            LeaseKey { flow_id: flow.flow_id, pos, epoch: retry.as_ref().map_or(1, |r| r.epoch) },
            Arc::clone(job),
            body,
            one.deployment,
            retry.as_ref().map_or(Try::FIRST, Try::again),
            now,
            one.admission,
        );
        request.never_fits = never_fits;
        requests.push(Arc::new(request));
    }
    requests
}

#[cfg(test)]
mod tests;
