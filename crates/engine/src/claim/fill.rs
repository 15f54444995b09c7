//! The decision of a claim, pure: free slots go to lanes, to teams inside a lane, to flows inside a team. Strict lanes first;
//! then always to whoever has the least for its weight, what is running counted in, so that the parts even out over time.

use std::{cmp::Reverse, collections::BinaryHeap};

/// A lane as the decision sees it.
#[derive(Debug, Clone)]
pub struct LaneState {
    pub strict: bool,
    pub weight: u32,
    /// Slots that only this lane may use.
    pub reserve: usize,
    /// Slots that it has at most.
    pub most: usize,
    /// It got no slot for so long that one request of it goes before the strict lanes.
    pub aged: bool,
    pub in_use: usize,
}

/// A team in a lane, with the flows of it that were read.
#[derive(Debug, Clone)]
pub struct ShareState {
    pub lane: usize,
    pub weight: u32,
    pub in_use: usize,
}

/// A flow; in the order in which its share prefers them.
#[derive(Debug, Clone)]
pub struct FlowState {
    pub share: usize,
    pub priority: i16,
    /// Requests that could run now.
    pub supply: usize,
}

/// Whether one more request of a flow may start; what it took on the way is the caller's.
pub trait Gate {
    /// `false`: this flow can have no more now.
    fn admit(&mut self, flow: usize) -> bool;
}

impl<F: FnMut(usize) -> bool> Gate for F {
    fn admit(&mut self, flow: usize) -> bool {
        self(flow)
    }
}

/// Parts `free` slots of `total`. Gives how many each flow was granted; the gate was asked once for each.
pub fn fill(
    total: usize,
    free: usize,
    lanes: &[LaneState],
    shares: &[ShareState],
    flows: &[FlowState],
    gate: &mut impl Gate,
) -> Vec<usize> {
    let mut granted = vec![0; flows.len()];
    let mut left = free;
    let mut supply: Vec<usize> = flows.iter().map(|flow| flow.supply).collect();
    let mut lane_use: Vec<usize> = lanes.iter().map(|lane| lane.in_use).collect();
    let mut share_use: Vec<usize> = shares.iter().map(|share| share.in_use).collect();

    for lane in (0..lanes.len()).filter(|lane| lanes[*lane].aged) {
        // Lanes are served by weight only after the strict ones, so an old one goes first with a single request.
        let first = shares
            .iter()
            .enumerate()
            .filter(|(_, share)| share.lane == lane)
            .find_map(|(n, _)| pick(n, flows, &supply, &granted).map(|flow| (n, flow)));
        let Some((share, flow)) = first else { continue };
        if left == 0 || !lane_has_room(total, lane, lanes, &lane_use) {
            continue;
        }
        if gate.admit(flow) {
            supply[flow] -= 1;
            granted[flow] += 1;
            lane_use[lane] += 1;
            share_use[share] += 1;
            left -= 1;
        } else {
            supply[flow] = 0;
        }
    }
    for strict in [true, false] {
        // Whoever has least for its weight is served next; ties go to the earlier, which was served longer ago.
        let mut queue: BinaryHeap<Reverse<(u64, u64, usize)>> = BinaryHeap::new();
        let key = |share: usize, lane_use: &[usize], share_use: &[usize]| {
            let state = &shares[share];
            let lane = &lanes[state.lane];
            Reverse((per_weight(lane_use[state.lane], lane.weight), per_weight(share_use[share], state.weight), share))
        };
        for (n, share) in shares.iter().enumerate() {
            if lanes[share.lane].strict == strict && flows.iter().any(|flow| flow.share == n && flow.supply > 0) {
                queue.push(key(n, &lane_use, &share_use));
            }
        }
        while left > 0 {
            let Some(Reverse(entry)) = queue.pop() else { break };
            let share = entry.2;
            let lane = shares[share].lane;
            // The key may be old: the lane was served through another team meanwhile.
            let now = key(share, &lane_use, &share_use);
            if now.0 != entry {
                queue.push(now);
                continue;
            }
            if !lane_has_room(total, lane, lanes, &lane_use) {
                continue;
            }
            let Some(flow) = pick(share, flows, &supply, &granted) else { continue };
            if gate.admit(flow) {
                supply[flow] -= 1;
                granted[flow] += 1;
                lane_use[lane] += 1;
                share_use[share] += 1;
                left -= 1;
            } else {
                supply[flow] = 0;
            }
            queue.push(key(share, &lane_use, &share_use));
        }
    }
    granted
}

/// Fixed point, so that the order is total and the same everywhere.
fn per_weight(used: usize, weight: u32) -> u64 {
    (used as u64) * 1_000_000 / u64::from(weight.max(1))
}

/// The highest priority first; among equals whoever got least in this claim, then the one served longest ago.
fn pick(share: usize, flows: &[FlowState], supply: &[usize], granted: &[usize]) -> Option<usize> {
    (0..flows.len())
        .filter(|flow| flows[*flow].share == share && supply[*flow] > 0)
        .min_by_key(|flow| (Reverse(flows[*flow].priority), granted[*flow], *flow))
}

/// Whether the lane may use one more slot: what other lanes have reserved and do not use is not there for it.
fn lane_has_room(total: usize, lane: usize, lanes: &[LaneState], lane_use: &[usize]) -> bool {
    let kept: usize = (0..lanes.len())
        .filter(|other| *other != lane)
        .map(|other| lanes[other].reserve.saturating_sub(lane_use[other]))
        .sum();
    lane_use[lane] < lanes[lane].most && lane_use.iter().sum::<usize>() + kept < total
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lanes() -> Vec<LaneState> {
        let lane = |strict, weight, reserve| LaneState { strict, weight, reserve, most: 1_000, aged: false, in_use: 0 };
        vec![lane(true, 1, 10), lane(false, 4, 0), lane(false, 1, 0)]
    }
    fn share(lane: usize, weight: u32, in_use: usize) -> ShareState {
        ShareState { lane, weight, in_use }
    }
    fn flow(share: usize, supply: usize) -> FlowState {
        FlowState { share, priority: 0, supply }
    }
    fn open(_: usize) -> bool {
        true
    }

    #[test]
    fn bulk_leaves_the_reserve_alone() {
        let granted = fill(100, 100, &lanes(), &[share(2, 1, 0)], &[flow(0, 1_000_000)], &mut open);
        assert_eq!(granted, [90]);
    }

    #[test]
    fn prod_may_use_everything_and_goes_first() {
        let shares = [share(2, 1, 0), share(0, 1, 0)];
        let granted = fill(100, 100, &lanes(), &shares, &[flow(0, 1_000), flow(1, 30)], &mut open);
        assert_eq!(granted, [70, 30]);
    }

    #[test]
    fn weighted_lanes_part_what_is_left() {
        let granted =
            fill(110, 110, &lanes(), &[share(1, 1, 0), share(2, 1, 0)], &[flow(0, 1_000), flow(1, 1_000)], &mut open);
        assert_eq!(granted, [80, 20]);
    }

    #[test]
    fn a_lane_gets_no_more_than_its_most() {
        let mut lanes = lanes();
        lanes[2].most = 30;
        lanes[2].in_use = 5;
        assert_eq!(fill(100, 95, &lanes, &[share(2, 1, 5)], &[flow(0, 1_000)], &mut open), [25]);
    }

    #[test]
    fn an_aged_lane_gets_one_slot_before_the_strict_but_never_their_reserve() {
        let mut lanes = lanes();
        lanes[0].in_use = 99;
        let (shares, flows) = ([share(0, 1, 99), share(2, 1, 0)], [flow(0, 1_000), flow(1, 1_000)]);
        assert_eq!(fill(100, 1, &lanes, &shares, &flows, &mut open), [1, 0]);
        lanes[2].aged = true;
        assert_eq!(fill(100, 1, &lanes, &shares, &flows, &mut open), [0, 1]);
        // What is left is prod's reserve.
        let idle = [share(0, 1, 0), share(2, 1, 0)];
        (lanes[0].in_use, lanes[1].in_use) = (0, 90);
        assert_eq!(fill(100, 10, &lanes, &idle, &[flow(0, 4), flow(1, 9)], &mut open), [4, 0]);
    }

    #[test]
    fn teams_part_a_lane_by_weight_with_what_runs_counted_in() {
        let shares = [share(2, 3, 0), share(2, 1, 0), share(2, 1, 18)];
        let granted = fill(210, 100, &lanes(), &shares, &[flow(0, 1_000), flow(1, 1_000), flow(2, 1_000)], &mut open);
        assert_eq!(granted.iter().sum::<usize>(), 100);
        assert!((granted[0] as i64 - 3 * granted[1] as i64).abs() <= 3, "{granted:?}");
        assert!((granted[1] as i64 - 18 - granted[2] as i64).abs() <= 1, "{granted:?}");
    }

    #[test]
    fn a_refused_flow_delays_nobody() {
        let shares = [share(2, 1, 0), share(2, 1, 0)];
        let mut gate = |flow: usize| flow != 0;
        let granted =
            fill(100, 50, &lanes(), &shares, &[self::flow(0, 500), self::flow(1, 500), self::flow(0, 5)], &mut gate);
        assert_eq!(granted, [0, 45, 5]);
    }

    #[test]
    fn higher_priority_goes_first_inside_a_team() {
        let mut high = flow(0, 3);
        high.priority = 10;
        assert_eq!(fill(100, 5, &lanes(), &[share(2, 1, 0)], &[flow(0, 9), high], &mut open), [2, 3]);
    }

    proptest! {
        #[test]
        fn grants_fit_supply_and_room(
            free in 0usize..64,
            shares in proptest::collection::vec((0usize..3, 1u32..5, 0usize..10), 1..6),
            supplies in proptest::collection::vec((0usize..6, 0usize..50), 0..10),
        ) {
            let shares: Vec<ShareState> = shares.into_iter().map(|(lane, weight, used)| share(lane, weight, used)).collect();
            let flows: Vec<FlowState> = supplies.into_iter().filter(|(s, _)| *s < shares.len()).map(|(s, n)| flow(s, n)).collect();
            let mut lanes = lanes();
            for s in &shares { lanes[s.lane].in_use += s.in_use; }
            let used: usize = lanes.iter().map(|l| l.in_use).sum();
            let total = used + free;
            let granted = fill(total, free, &lanes, &shares, &flows, &mut open);
            prop_assert!(granted.iter().sum::<usize>() <= free);
            prop_assert!(granted.iter().zip(&flows).all(|(n, flow)| *n <= flow.supply));
            // Work-conserving but for the reserve: something is left over only if everything was granted or only the reserve is left.
            let left = free - granted.iter().sum::<usize>();
            let unmet: usize = granted.iter().zip(&flows).map(|(n, flow)| flow.supply - n).sum();
            if left > 10 { prop_assert_eq!(unmet, 0); }
        }
    }
}
