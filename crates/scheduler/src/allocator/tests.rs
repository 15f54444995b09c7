use super::*;
use proptest::prelude::*;

/// prod is strict and has a reserve of 10; two weighted lanes, 4 to 1.
fn lanes() -> Vec<LaneState> {
    let lane = |strict, weight, reserve| LaneState {
        strict,
        weight,
        reserve,
        most: None,
        in_use: 0,
        calls: 0,
        virtual_time: 0,
        overdue: false,
        served_up_to: 0,
    };
    vec![lane(true, 1, 10), lane(false, 4, 0), lane(false, 1, 0)]
}

/// A team with flows of these supplies.
#[derive(Debug)]
struct Team {
    lane: usize,
    weight: u32,
    virtual_time: i64,
    cost: u64,
    flows: Vec<usize>,
}

fn team(lane: usize, flows: &[usize]) -> Team {
    Team { lane, weight: 1, virtual_time: 0, cost: 100, flows: flows.to_vec() }
}

/// Fills; gives what each flow was granted, and the lanes and shares as they stand then.
fn run(
    total: usize,
    free: usize,
    mut lanes: Vec<LaneState>,
    teams: &[Team],
    mut gate: impl FnMut(usize) -> bool,
) -> (Vec<usize>, Vec<LaneState>, Vec<ShareState>) {
    let (mut supply, mut shares) = (Vec::new(), Vec::new());
    for team in teams {
        let flows = supply.len()..supply.len() + team.flows.len();
        supply.extend(&team.flows);
        let Team { lane, weight, virtual_time, cost, .. } = *team;
        shares.push(ShareState { lane, weight, virtual_time, cost, flows });
    }
    let before = supply.clone();
    fill(total, free, &mut lanes, &mut shares, &mut supply, &mut gate);
    (before.iter().zip(supply).map(|(before, after)| before - after).collect(), lanes, shares)
}

fn granted(total: usize, free: usize, teams: &[Team]) -> Vec<usize> {
    run(total, free, lanes(), teams, |_| true).0
}

#[test]
fn bulk_leaves_the_reserve_alone() {
    assert_eq!(granted(100, 100, &[team(2, &[1_000_000])]), [90]);
}

#[test]
fn a_lane_gets_no_more_than_its_most() {
    let mut lanes = lanes();
    (lanes[2].most, lanes[2].in_use) = (Some(30), 5);
    assert_eq!(run(100, 95, lanes, &[team(2, &[1_000])], |_| true).0, [25]);
}

#[test]
fn prod_may_use_everything_and_goes_first() {
    assert_eq!(granted(100, 100, &[team(2, &[1_000]), team(0, &[30])]), [70, 30]);
}

#[test]
fn weighted_lanes_part_what_is_left() {
    assert_eq!(granted(110, 110, &[team(1, &[1_000]), team(2, &[1_000])]), [80, 20]);
}

#[test]
fn weights_of_three_to_one_to_one() {
    let teams = [Team { weight: 3, ..team(2, &[1_000]) }, team(2, &[1_000]), team(2, &[1_000])];
    assert_eq!(granted(110, 110, &teams), [60, 20, 20]);
}

#[test]
fn what_was_used_before_counts() {
    let teams = [Team { virtual_time: 1_000, ..team(2, &[50]) }, team(2, &[50])];
    assert_eq!(granted(110, 20, &teams), [5, 15]);
}

#[test]
fn a_team_whose_calls_take_ten_times_as_long_starts_a_tenth_as_many() {
    let teams = [Team { cost: 1_000, ..team(2, &[1_000]) }, team(2, &[1_000])];
    assert_eq!(granted(120, 110, &teams), [10, 100]);
}

#[test]
fn a_refused_flow_delays_nobody() {
    let teams = [team(2, &[500, 5]), team(2, &[500])];
    assert_eq!(run(110, 60, lanes(), &teams, |flow| flow != 0).0, [0, 5, 55]);
}

#[test]
fn who_is_held_back_gains_no_credit() {
    let teams = [team(2, &[500]), Team { virtual_time: 10_000, ..team(2, &[500]) }];
    let (granted, lanes, shares) = run(100, 20, lanes(), &teams, |flow| flow != 0);
    assert_eq!(granted, [0, 20]);
    assert_eq!((shares[0].virtual_time, shares[1].virtual_time), (11_900, 12_000));
    assert_eq!(lanes[2].served_up_to, 11_900);
}

#[test]
fn a_team_prefers_its_flows_in_order() {
    assert_eq!(granted(100, 5, &[team(2, &[3, 9])]), [3, 2]);
}

#[test]
fn an_overdue_lane_gets_one_before_a_strict_one_but_not_of_the_reserve() {
    let mut waiting = lanes();
    waiting[2].overdue = true;
    let teams = [team(0, &[1_000]), team(2, &[1_000])];
    assert_eq!(run(100, 100, waiting.clone(), &teams, |_| true).0, [99, 1]);
    // Nine in use of a reserve of ten: the last slot is prod's.
    waiting[0].in_use = 9;
    waiting[1].in_use = 90;
    assert_eq!(run(100, 1, waiting, &teams, |_| true).0, [1, 0]);
}

/// Calls of prod fill its reserve, and beyond that take slots from weighted lanes, half of the unreserved ones at most.
#[test]
fn synchronous_calls_count_with_the_requests_of_their_lane() {
    let bulk_beside = |calls: [usize; 3]| {
        let mut lanes = lanes();
        lanes.iter_mut().zip(calls).for_each(|(lane, calls)| (lane.in_use, lane.calls) = (calls, calls));
        run(100, 100, lanes, &[team(2, &[1_000])], |_| true).0[0]
    };
    assert_eq!([0, 6, 10].map(|calls| bulk_beside([calls, 0, 0])), [90; 3], "prod's own");
    assert_eq!([bulk_beside([30, 0, 0]), bulk_beside([0, 20, 5])], [70, 65]);
    assert_eq!([bulk_beside([500, 0, 0]), bulk_beside([0, 0, 500])], [45; 2], "the queue is never starved");
}

#[test]
fn calls_of_others_are_no_reason_for_prod_to_wait() {
    let mut lanes = lanes();
    (lanes[1].in_use, lanes[1].calls) = (400, 400);
    assert_eq!(run(100, 100, lanes.clone(), &[team(0, &[1_000])], |_| true).0, [100]);
    // Its calls and its requests fill one reserve; what is left of that is there, whatever else runs.
    (lanes[0].in_use, lanes[0].calls, lanes[2].in_use) = (4, 4, 90);
    assert_eq!(run(100, 10, lanes, &[team(2, &[1_000]), team(0, &[1_000])], |_| true).0, [0, 6]);
}

fn any_teams() -> impl Strategy<Value = Vec<Team>> {
    let flows = proptest::collection::vec(0usize..40, 0..4);
    let any = (0usize..3, 1u32..5, 0i64..2_000, 1u64..500, flows);
    let team =
        any.prop_map(|(lane, weight, virtual_time, cost, flows)| Team { lane, weight, virtual_time, cost, flows });
    proptest::collection::vec(team, 1..8)
}

proptest! {
    #[test]
    fn work_conserving_and_the_reserve_is_never_others(
        teams in any_teams(), free in 0usize..64, used in proptest::collection::vec(0usize..20, 3), refuse in any::<u32>(),
    ) {
        let mut before = lanes();
        for (lane, used) in before.iter_mut().zip(&used) { lane.in_use = *used; }
        let total = used.iter().sum::<usize>() + free;
        let admitted = |flow: usize| refuse >> (flow % 32) & 1 == 0;
        let (granted, after, _) = run(total, free, before, &teams, admitted);
        prop_assert!(granted.iter().sum::<usize>() <= free);
        let others: usize = after[1].in_use + after[2].in_use;
        let took = others > used[1] + used[2];
        prop_assert!(!took || others + after[0].in_use.max(10) <= total, "the reserve was used by others");
        let mut flow = 0;
        for team in &teams {
            for supply in &team.flows {
                prop_assert!(granted[flow] <= *supply && (admitted(flow) || granted[flow] == 0));
                // What could run and does not found no slot that it may use.
                if admitted(flow) && granted[flow] < *supply {
                    let kept = if team.lane == 0 { 0 } else { 10usize.saturating_sub(after[0].in_use) };
                    prop_assert!(others + after[0].in_use + kept >= total, "a slot was left empty");
                }
                flow += 1;
            }
        }
    }

    /// Max-min: whoever was granted anything stood, before its last grant, no higher than any who would have taken more.
    #[test]
    fn nobody_is_served_before_one_who_has_less(teams in any_teams(), free in 0usize..64) {
        let (granted, _, shares) = run(free + 10, free, lanes(), &teams, |_| true);
        let (mut flow, mut wants, mut got) = (0, Vec::new(), Vec::new());
        for team in &teams {
            let mine = &granted[flow..flow + team.flows.len()];
            got.push(mine.iter().sum::<usize>());
            wants.push(mine.iter().sum::<usize>() < team.flows.iter().sum());
            flow += team.flows.len();
        }
        for (a, team) in teams.iter().enumerate().filter(|(a, _)| got[*a] > 0) {
            let step = per_weight(team.cost as i64, team.weight).max(1);
            for (b, other) in teams.iter().enumerate().filter(|(b, _)| wants[*b]) {
                if other.lane == team.lane {
                    prop_assert!(shares[a].virtual_time - step <= shares[b].virtual_time, "{a} was served before {b}");
                }
            }
        }
    }

    /// With slots coming free for ever, everybody who waits is served, whatever the weights and costs.
    #[test]
    fn nobody_starves(weights in proptest::collection::vec((1u32..100, 1u64..10_000), 2..8)) {
        let mut teams: Vec<Team> =
            weights.iter().map(|(weight, cost)| Team { weight: *weight, cost: *cost, ..team(2, &[usize::MAX]) }).collect();
        let mut got = vec![0usize; teams.len()];
        for _ in 0..4_000 {
            let (granted, _, shares) = run(11, 1, lanes(), &teams, |_| true);
            for n in 0..teams.len() {
                got[n] += granted[n];
                teams[n].virtual_time = shares[n].virtual_time;
            }
        }
        // What each got, in slot-time for its weight, differs by less than one call of the most expensive.
        let steps = weights.iter().map(|(weight, cost)| (*cost as i64 / i64::from(*weight)).max(1));
        let spread = steps.clone().max().unwrap();
        let (low, high) = (teams.iter().map(|t| t.virtual_time).min().unwrap(), teams.iter().map(|t| t.virtual_time).max().unwrap());
        prop_assert!(high - low <= spread, "{got:?}");
    }
}
