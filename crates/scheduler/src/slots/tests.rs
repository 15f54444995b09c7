use super::*;

#[test]
fn a_slot_is_free_again_when_its_guard_is_gone() {
    let slots = Slots::new(2);
    let (first, second) = (slots.take(&Lane::prod(), 1, 0), slots.take(&Lane::bulk(), 1, 0));
    assert_eq!(slots.free(), 0);
    drop(first);
    assert_eq!(slots.free(), 1);
    let asking = |lane| Asking { lane, strict: false, weight: 1, wants: true, most: None, max_wait: None };
    let standings = slots.lanes(&[asking(Lane::prod()), asking(Lane::bulk())]);
    assert_eq!(standings.iter().map(|s| s.in_use).collect::<Vec<_>>(), [0, 1]);
    drop(second);
    assert_eq!(slots.free(), 2);
}

#[test]
fn what_was_used_is_billed_once() {
    let slots = Slots::new(2);
    let bill = || slots.bill(std::iter::once((Lane::bulk(), 7, 0)))[0];
    assert_eq!((bill().due, bill().cost), (0, FIRST_GUESS));
    let guard = slots.take(&Lane::bulk(), 7, 500_000_000);
    std::thread::sleep(Duration::from_millis(2));
    drop(guard);
    let Bill { due, cost, known } = bill();
    assert_eq!(500_000_000 + due, cost as i64, "in the end it is what the call took");
    assert!(cost >= 2_000 && cost == known, "{cost} {known}");
    assert_eq!(bill().due, 0);
}

#[test]
fn synchronous_calls_and_requests_of_a_lane_count_together() {
    let slots = Slots::new(10);
    let rule = |max_percent| LaneRule { max_percent, ..LaneRule::new(domain::catalog::LaneClass::Weighted, 1) };
    assert_eq!((slots.most(&rule(100)), slots.most(&rule(30)), Slots::new(0).most(&rule(30))), (None, Some(3), None));
    let enter = |most| slots.enter(&Lane::bulk(), most, false);
    let (_request, calls) = (slots.take(&Lane::bulk(), 1, 0), [enter(Some(3)), enter(Some(3))]);
    assert!(calls.iter().all(Option::is_some) && enter(Some(3)).is_none(), "two calls beside one request of three");
    assert!((0..500).map(|_| slots.enter(&Lane::prod(), None, false)).all(|call| call.is_some()));
    assert_eq!(slots.free(), 9, "the queue's own");
    drop(calls);
    assert!(enter(Some(3)).is_some());
}

/// Between a claim's decision and its commit nothing may start in what it decided on, or a lane would have more than its most.
#[test]
fn calls_keep_out_of_what_a_claim_fills() {
    let slots = Slots::new(10);
    let wants = Asking { lane: Lane::bulk(), strict: false, weight: 1, wants: true, most: Some(4), max_wait: None };
    let enter = || slots.enter(&Lane::bulk(), Some(4), true);
    slots.lanes(std::slice::from_ref(&wants));
    assert!(enter().is_none(), "it may yet fill all four");
    slots.claims(&Lane::bulk(), 3);
    let call = enter();
    assert!(call.is_some() && enter().is_none());
    let requests: Vec<_> = (0..3).map(|_| slots.take(&Lane::bulk(), 1, 0)).collect();
    assert!(enter().is_none());
    drop(requests);
    assert!(enter().is_some());
    // A claim that failed holds nothing.
    slots.claims(&Lane::bulk(), 3);
    slots.lanes(&[Asking { wants: false, ..wants }]);
    assert!(enter().is_some());
}
