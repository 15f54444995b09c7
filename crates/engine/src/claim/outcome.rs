//! The outcome of a claim for each flow and share: how far its cursor moves, and when it is examined again.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use domain::waits::{Obstacle, WaitReason};
use scheduler::backoff;
use store::claim::{FlowRow, RetryRow, ShareRow, Verdicts};

use super::selection::{Decision, flows_of};

/// Of one flow.
pub(super) struct Verdict {
    /// How far its cursor moves.
    pub advance: i32,
    asleep: bool,
    blocked_until: Option<DateTime<Utc>>,
    reason: Option<String>,
    held_since: Option<DateTime<Utc>>,
    /// It was read, and neither served nor refused: it stays as it is, unless it says that something else was in its way.
    untouched: bool,
}

impl Verdict {
    /// Nothing more of it can run now.
    pub fn rests(&self) -> bool {
        self.asleep || self.blocked_until.is_some()
    }
}

/// A job that a sub-budget refuses is paused or admitted within a moment, so its back-off does not grow.
fn pause(after: Duration, obstacle: &Obstacle, held: Duration) -> Duration {
    match obstacle.reason {
        WaitReason::Guard | WaitReason::MaxCost => after,
        _ => backoff::while_blocked(after, held),
    }
}

/// `granted`: how many requests of each flow were, and `retries` those that were taken for them.
pub(super) fn flows(
    flows: &[FlowRow],
    granted: &[i64],
    retries: &[RetryRow],
    decision: &Decision,
    now: DateTime<Utc>,
) -> Vec<Verdict> {
    let held = |since: Option<DateTime<Utc>>| since.and_then(|at| (now - at).to_std().ok()).unwrap_or_default();
    let verdict = |(n, flow): (usize, &FlowRow)| {
        let retried = retries.iter().filter(|r| r.flow_id == flow.flow_id).count() as i64;
        let advance = (granted[n] - retried).max(0) as i32;
        let asleep = flow.next_pos + advance >= flow.tail_pos && retried >= flow.due_retries;
        let refusal = decision.refusals.get(&n);
        let held_since = match refusal {
            _ if granted[n] > 0 || asleep => None,
            Some(_) => flow.held_since.or(Some(now)),
            None => flow.held_since,
        };
        Verdict {
            advance,
            asleep,
            blocked_until: refusal.map(|(after, obstacle)| now + pause(*after, obstacle, held(held_since))),
            reason: refusal.map(|(_, obstacle)| obstacle.stored()),
            held_since,
            untouched: granted[n] == 0 && refusal.is_none() && !asleep && !flow.has_reason,
        }
    };
    flows.iter().enumerate().map(verdict).collect()
}

/// All verdicts, with those of the shares. A share in which nothing that was read can run sleeps until its first flow
/// can run, or until it is woken. The exception is a share with `enough` flows read: it may have more, and
/// searching a million flows for the first runnable one would cost more than the next claim.
pub(super) async fn all(
    conn: &mut store::PgConnection,
    shares: &[ShareRow],
    flows: &[FlowRow],
    of_flows: &[Verdict],
    decision: &Decision,
    enough: i64,
    now: DateTime<Utc>,
) -> store::Result<Verdicts> {
    let mut verdicts = Verdicts::default();
    for (flow, verdict) in flows.iter().zip(of_flows).filter(|(_, verdict)| !verdict.untouched) {
        verdicts.flow_ids.push(flow.flow_id);
        verdicts.advances.push(verdict.advance);
        verdicts.flow_asleep.push(verdict.asleep);
        verdicts.flow_blocked_until.push(verdict.blocked_until);
        verdicts.flow_reasons.push(verdict.reason.clone());
        verdicts.flow_held_since.push(verdict.held_since);
    }
    let flows_of = flows_of(shares, flows);
    let rests = |n: usize| of_flows[flows_of[n].clone()].iter().all(Verdict::rests);
    let idle: Vec<&ShareRow> =
        (0..shares.len()).filter(|n| rests(*n) && (flows_of[*n].len() as i64) < enough).map(|n| &shares[n]).collect();
    let wakes = match idle.is_empty() {
        true => HashMap::new(),
        false => store::claim::share_wakes(conn, &idle, &verdicts.flow_ids).await?,
    };
    for (n, share) in shares.iter().enumerate() {
        let of_share = &of_flows[flows_of[n].clone()];
        let unread = wakes.get(&(share.lane.clone(), share.team_id));
        // A flow that could run but was not read is held by somebody else for a moment.
        let unread_wake = unread.copied().flatten().map(|at| at.max(now + super::CONTENTION_BACKOFF));
        let read = of_share.iter().filter(|verdict| !verdict.asleep).filter_map(|verdict| verdict.blocked_until);
        let wake = match unread {
            Some(_) => read.chain(unread_wake).min(),
            // What was not read may be refused like all that was: other shares come first for a moment.
            None => (rests(n) && read.count() > 0).then_some(now + super::CONTENTION_BACKOFF),
        };
        verdicts.share_lanes.push(share.lane.clone());
        verdicts.share_teams.push(share.team_id);
        verdicts.share_levels.push(decision.virtual_times[n]);
        verdicts.share_costs.push(decision.costs[n]);
        verdicts.share_blocked_until.push(wake);
        verdicts.share_asleep.push(unread.is_some() && wake.is_none());
    }
    Ok(verdicts)
}
