use super::*;

#[test]
fn a_deployment_keeps_a_part_for_prod() {
    let mut catalog = Catalog::default();
    let deployment = serde_json::json!({"kind": "openai", "base_url": "http://x/v1", "model": "m", "slots": 10});
    catalog.deployments.insert("d".into(), serde_json::from_value(deployment).unwrap());
    let limits = declared(&catalog, |_| None);
    let caps: Vec<String> = limits.into_iter().map(|l| format!("{} {}", l.scope, l.cap)).collect();
    assert_eq!(caps, ["deployment:d 10", "deployment:d:reserve:prod 1", "deployment:d:shared 9"]);
}

/// A replica that was granted all of these limits.
fn granted(lanes: &BTreeMap<Lane, LaneRule>, kind: Kind, cap: i64) -> Limiter {
    let limiter = Limiter::default();
    let all = std::iter::once((deployment_scope("d"), cap)).chain(lane_partition::of("d", cap, lanes));
    for (scope, cap) in all {
        let rule = LimitRule::new(1, &scope, kind);
        rule.grant(cap);
        limiter.by_scope.write().unwrap().insert(scope.into(), vec![Arc::new(rule)]);
    }
    limiter
}

fn two_reserves() -> BTreeMap<Lane, LaneRule> {
    let rule = |reserve_percent, max_percent| LaneRule {
        reserve_percent,
        max_percent,
        ..LaneRule::new(domain::catalog::LaneClass::Weighted, 1)
    };
    let lanes = [("prod", rule(10, 100)), ("chat", rule(20, 50)), ("bulk", rule(0, 100))];
    lanes.into_iter().map(|(lane, rule)| (lane.parse().unwrap(), rule)).collect()
}

#[test]
fn no_lane_takes_another_ones_reserve_of_a_deployment() {
    let lanes = two_reserves();
    for kind in [Kind::Slots, Kind::Rpm] {
        let limiter = granted(&lanes, kind, 100);
        let mut held = Vec::new();
        let mut take = |lane: &str| {
            let lane = lane.parse().unwrap();
            let before = held.len();
            held.extend(
                (0..200).map_while(|_| limiter.take_deployment("d", &lane, &reserves(&lanes), 1, Waiter::Job).ok()),
            );
            held.len() - before
        };
        // chat has its own 20, and of what is shared no more than makes its half.
        assert_eq!((take("chat"), take("bulk"), take("prod"), take("chat")), (50, 40, 10, 0), "{kind:?}");
    }
}

#[test]
fn a_pace_that_was_cut_leaves_each_reserve_its_part() {
    let lanes = two_reserves();
    let (limiter, now) = (Limiter::default(), std::time::Instant::now());
    let take = |lane: &str, n: usize| -> Vec<Permit> {
        let lane = lane.parse().unwrap();
        (0..n).map_while(|_| limiter.take_deployment("d", &lane, &reserves(&lanes), 1, Waiter::Job).ok()).collect()
    };
    let (bulk, prod) = (take("bulk", 35), take("prod", 5));
    limiter.concurrency.refused("d", now);
    assert_eq!(limiter.concurrency.ceiling("d"), Some(20));
    assert_eq!(take("prod", 9).len(), 0, "more are under way than the deployment takes");
    drop((bulk, prod));
    let bulk = take("bulk", 100);
    let (chat, prod) = (take("chat", 100), take("prod", 100));
    assert_eq!((bulk.len(), chat.len(), prod.len()), (14, 4, 2), "of 20");
    drop(bulk);
    assert_eq!(take("prod", 100).len(), 14, "what is shared is for all");
}
