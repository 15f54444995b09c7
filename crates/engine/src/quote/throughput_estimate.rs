//! How long a job takes under the limits in force: with all that they leave to it, and with its fair share beside others.

use admission::{
    catalog::ActiveCatalog,
    limits::{Kind, Limiter, deployment_scope, key_scope, lane_scope, team_scope},
};
use domain::{Lane, catalog::LaneClass};
use store::lane::LaneView;

use super::{answer::DurationRange, sums::Sums};
use crate::submit::Submitter;

/// Calls at once, and requests and tokens in a second; infinite where there is no limit.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Caps {
    slots: f64,
    requests: f64,
    tokens: f64,
}

impl Caps {
    fn of(limits: &Limiter, scope: &str) -> Self {
        let cap = |kind, per: f64| limits.cap(scope, kind).map_or(f64::INFINITY, |cap| cap as f64 / per);
        Self { slots: cap(Kind::Slots, 1.0), requests: cap(Kind::Rpm, 60.0), tokens: cap(Kind::Tpm, 60.0) }
    }

    fn and(self, other: Self) -> Self {
        Self {
            slots: self.slots.min(other.slots),
            requests: self.requests.min(other.requests),
            tokens: self.tokens.min(other.tokens),
        }
    }

    /// Seconds that the load takes at least.
    fn seconds(self, load: Load) -> f64 {
        (load.slot_seconds / self.slots).max(load.requests / self.requests).max(load.tokens / self.tokens)
    }
}

/// Work: how long its calls hold slots, how many they are, and what they count for limits of tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Load {
    slot_seconds: f64,
    requests: f64,
    tokens: f64,
}

/// What a caller gets in a lane.
#[derive(Debug)]
pub struct ThroughputEstimate<'a> {
    limits: &'a Limiter,
    caller: Caps,
    /// Worker slots of the lane when it has them alone, and its team's part beside those that have work now.
    slots: f64,
    fair_slots: f64,
    /// Requests of the team that wait in the lane already.
    ahead: i64,
}

/// `all`, `own`: the lanes' queues, of all teams and of the caller's. `slots`: of all workers.
pub fn of<'a>(
    limits: &'a Limiter,
    catalog: &ActiveCatalog,
    all: &[LaneView],
    own: &[LaneView],
    slots: i64,
    who: Submitter<'_>,
    lane: &Lane,
) -> ThroughputEstimate<'a> {
    let scopes = [team_scope(who.team_id), lane_scope(lane, who.team_id), key_scope(who.key_id)];
    let caller = scopes.iter().map(|scope| Caps::of(limits, scope)).reduce(Caps::and);
    let rule = &catalog.lanes[lane];
    let of_lane = |views: &[LaneView]| views.iter().find(|view| view.lane == lane.as_str()).cloned();
    let mine = of_lane(own);
    let most = slots as f64 * f64::from(rule.max_percent) / 100.0;
    // What the strict lanes use now, and what else is reserved; a strict lane goes before.
    let others = catalog.lanes.iter().filter(|(name, _)| *name != lane);
    let taken: f64 = others
        .map(|(name, other)| {
            let in_flight = all.iter().find(|view| view.lane == name.as_str()).map_or(0, |view| view.in_flight);
            let reserved = slots as f64 * f64::from(other.reserve_percent) / 100.0;
            let used = if other.class == LaneClass::Strict { in_flight as f64 } else { 0.0 };
            used.max(reserved)
        })
        .sum();
    let left = (slots as f64 - taken).max(slots.min(1) as f64);
    let alone = left.min(most);
    let busy = |name: &Lane| name == lane || all.iter().any(|view| view.lane == name.as_str() && view.waiting > 0);
    let weights: u32 = catalog
        .lanes
        .iter()
        .filter(|(name, other)| other.class == LaneClass::Weighted && busy(name))
        .map(|(_, other)| other.weight)
        .sum();
    let lane_part =
        if rule.class == LaneClass::Strict { 1.0 } else { f64::from(rule.weight) / f64::from(weights.max(1)) };
    let rivals = of_lane(all).map_or(0, |view| view.teams) - mine.as_ref().map_or(0, |view| view.teams);
    ThroughputEstimate {
        limits,
        caller: caller.unwrap_or_else(|| Caps::of(limits, "")),
        slots: alone,
        fair_slots: (left * lane_part).min(most) / (rivals.max(0) + 1) as f64,
        ahead: mine.map_or(0, |view| view.waiting),
    }
}

impl ThroughputEstimate<'_> {
    /// Of a job whose requests add up to these; `None`: there are no slots, or it is not known how long its calls take.
    pub fn duration(&self, sums: &[Sums]) -> Option<DurationRange> {
        let loads: Vec<(Load, Caps)> = sums
            .iter()
            .map(|sum| {
                let load = Load {
                    slot_seconds: sum.requests as f64 * sum.latency_ms? as f64 / 1e3,
                    requests: sum.requests as f64,
                    tokens: sum.limit_tokens() as f64,
                };
                Some((load, Caps::of(self.limits, &deployment_scope(&sum.first()?.name))))
            })
            .collect::<Option<_>>()?;
        let (low, high) = self.range(&loads)?;
        Some(DurationRange { low: low.ceil() as u64, high: high.ceil() as u64 })
    }

    fn range(&self, loads: &[(Load, Caps)]) -> Option<(f64, f64)> {
        let sum = loads.iter().fold(Load::default(), |sum, (load, _)| Load {
            slot_seconds: sum.slot_seconds + load.slot_seconds,
            requests: sum.requests + load.requests,
            tokens: sum.tokens + load.tokens,
        });
        let at_deployments = loads.iter().map(|(load, caps)| caps.seconds(*load)).fold(0.0, f64::max);
        let with =
            |slots: f64, load: Load| self.caller.and(Caps { slots, ..self.caller }).seconds(load).max(at_deployments);
        // What waits already is taken to be like it.
        let mean = if sum.requests > 0.0 { sum.slot_seconds / sum.requests } else { 0.0 };
        let behind = Load { slot_seconds: sum.slot_seconds + self.ahead as f64 * mean, ..sum };
        let (low, high) = (with(self.slots, sum), with(self.fair_slots, behind));
        // Nothing ends before one call has.
        let (low, high) = (low.max(mean), high.max(low).max(mean));
        (low.is_finite() && high.is_finite()).then_some((low, high))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Caps = Caps { slots: f64::INFINITY, requests: f64::INFINITY, tokens: f64::INFINITY };

    fn pace(limits: &Limiter, caller: Caps, slots: f64, fair_slots: f64, ahead: i64) -> ThroughputEstimate<'_> {
        ThroughputEstimate { limits, caller, slots, fair_slots, ahead }
    }

    #[test]
    fn the_tightest_limit_says_how_long_it_takes() {
        let limits = Limiter::default();
        let load = Load { slot_seconds: 1_000.0, requests: 10_000.0, tokens: 1e6 };
        let range = |caller, slots, fair, ahead, at| pace(&limits, caller, slots, fair, ahead).range(&[(load, at)]);
        assert_eq!(range(NONE, 100.0, 25.0, 0, NONE), Some((10.0, 40.0)));
        assert_eq!(range(NONE, 100.0, 25.0, 10_000, NONE), Some((10.0, 80.0)), "as much waits before it");
        let caller = Caps { slots: 10.0, ..NONE };
        assert_eq!(range(caller, 100.0, 25.0, 0, NONE), Some((100.0, 100.0)));
        let deployment = Caps { tokens: 1e3, ..NONE };
        assert_eq!(range(caller, 100.0, 25.0, 0, deployment), Some((1_000.0, 1_000.0)));
        let deployment = Caps { requests: 50.0, ..NONE };
        assert_eq!(range(NONE, 100.0, 25.0, 0, deployment), Some((200.0, 200.0)));
        assert_eq!(range(NONE, 0.0, 0.0, 0, NONE), None, "nothing runs it");
    }

    #[test]
    fn nothing_ends_before_one_call_has() {
        let limits = Limiter::default();
        let load = Load { slot_seconds: 30.0, requests: 1.0, tokens: 1.0 };
        assert_eq!(pace(&limits, NONE, 100.0, 100.0, 0).range(&[(load, NONE)]), Some((30.0, 30.0)));
    }
}
