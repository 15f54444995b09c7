use super::*;

const MAX_WAIT: Option<u64> = Some(10_000);

fn ask(wants: [bool; 3]) -> Vec<Asking<&'static str>> {
    let lane = |lane, strict, weight, wants| Asking { lane, strict, weight, wants, most: None, max_wait: MAX_WAIT };
    vec![lane("prod", true, 1, wants[0]), lane("standard", false, 4, wants[1]), lane("bulk", false, 1, wants[2])]
}

#[test]
fn a_lane_comes_back_where_the_others_stand() {
    let mut turns = HashMap::default();
    look(&mut turns, &ask([true, true, false]), 100, 0, 100);
    turns.get_mut("standard").unwrap().account.start(0);
    turns.get_mut("prod").unwrap().account.start(0);
    let standing = look(&mut turns, &ask([true, true, true]), 100, 8_000, 100);
    assert_eq!(standing.iter().map(|s| s.virtual_time).collect::<Vec<_>>(), [8_000, 2_000, 2_000]);
    // It competes from here on: what it is ahead or behind stays as it is.
    turns.get_mut("bulk").unwrap().account.start(8_000);
    let standing = look(&mut turns, &ask([true, true, true]), 100, 9_000, 100);
    assert_eq!((standing[1].virtual_time, standing[2].virtual_time), (2_250, 3_000));
}

#[test]
fn a_lane_at_its_most_gains_no_credit() {
    let mut turns = HashMap::default();
    let asking = |most| {
        let mut asking = ask([false, true, true]);
        asking[2].most = Some(most);
        asking
    };
    look(&mut turns, &asking(1), 100, 0, 100);
    turns.get_mut("bulk").unwrap().account.start(0);
    (0..8).for_each(|_| turns.get_mut("standard").unwrap().account.start(0));
    let standing = look(&mut turns, &asking(1), 100, 40_000, 100);
    assert_eq!((standing[1].virtual_time, standing[2].virtual_time, standing[2].overdue), (80_000, 40_000, false));
    let standing = look(&mut turns, &asking(2), 100, 40_000, 100);
    assert_eq!((standing[1].virtual_time, standing[2].virtual_time), (80_000, 80_000));
}

#[test]
fn a_lane_that_becomes_strict_or_weighted_stands_where_its_new_rivals_do() {
    let mut turns = HashMap::default();
    let mut asking = ask([true, true, false]);
    look(&mut turns, &asking, 100, 0, 100);
    turns.get_mut("prod").unwrap().account.start(0);
    turns.get_mut("standard").unwrap().account.start(0);
    let mut virtual_times = |asking: &[Asking<&'static str>]| -> Vec<i64> {
        look(&mut turns, asking, 100, 80_000, 100).iter().map(|s| s.virtual_time).collect()
    };
    assert_eq!(virtual_times(&asking), [80_000, 20_000, 0]);
    asking[1].strict = true;
    assert_eq!(virtual_times(&asking), [80_000, 80_000, 0], "behind nobody, and not ahead of prod");
    asking[1].strict = false;
    asking[2].wants = true;
    assert_eq!(virtual_times(&asking), [80_000, 0, 0]);
}

#[test]
fn a_lane_that_is_not_served_is_overdue_in_time() {
    let mut turns = HashMap::default();
    let overdue = |turns: &mut HashMap<_, _>, wants, now| -> Vec<bool> {
        look(turns, &ask(wants), 100, now, 100).iter().map(|s| s.overdue).collect()
    };
    assert_eq!(overdue(&mut turns, [true, false, true], 5_000), [false, false, false]);
    assert_eq!(overdue(&mut turns, [true, false, true], 15_000), [false, false, true]);
    served(&mut turns, &"bulk", 0, 15_000);
    assert_eq!(overdue(&mut turns, [true, false, true], 24_999), [false, false, false]);
    assert_eq!(overdue(&mut turns, [true, true, true], 25_000), [false, false, true]);
    // Who wants nothing does not wait.
    assert_eq!(overdue(&mut turns, [true, true, false], 50_000), [false, true, false]);
    assert_eq!(overdue(&mut turns, [true, true, false], 50_000 + UNSEEN / 2), [false, true, false]);
    assert_eq!(overdue(&mut turns, [true, true, true], 50_000 + UNSEEN), [false, true, false]);
}

#[test]
fn synchronous_calls_are_on_the_bill_while_the_lane_competes() {
    let mut turns = HashMap::default();
    let virtual_times = |turns: &mut HashMap<_, _>, wants, now| -> Vec<i64> {
        look(turns, &ask(wants), 100, now, 100).iter().map(|s| s.virtual_time).collect()
    };
    virtual_times(&mut turns, [false, false, true], 0);
    (0..40).for_each(|_| assert!(turns.get_mut("standard").unwrap().calls.start(0, None, 0)));
    turns.get_mut("bulk").unwrap().account.start(0);
    // Nothing of standard waits, so nobody is kept waiting for what its callers use.
    assert_eq!(virtual_times(&mut turns, [false, true, true], 8_000)[1..], [8_000, 8_000]);
    assert_eq!(virtual_times(&mut turns, [false, true, true], 16_000)[1..], [8_000 + 40 * 8_000 / 4, 16_000]);
    // Half of its part, four fifths of the slots, is for its queue however many call.
    (0..900).for_each(|_| assert!(turns.get_mut("standard").unwrap().calls.start(0, None, 16_000)));
    assert_eq!(virtual_times(&mut turns, [false, true, true], 17_000)[1], 88_000 + 40 * 1_000 / 4);
}

#[test]
fn shares_that_others_hold_for_a_moment_do_not_end_a_wait() {
    let mut turns = HashMap::default();
    let max_wait = 5_000_000;
    let mut overdue = |wants, now| {
        let mut asking = ask([true, false, wants]);
        asking[2].max_wait = Some(max_wait);
        look(&mut turns, &asking, 100, now, 100)[2].overdue
    };
    assert!(!overdue(true, 0));
    (1..100).for_each(|n| assert!(!overdue(n % 3 == 0, n * max_wait / 100)));
    assert!(overdue(true, max_wait));
    assert!(!overdue(false, max_wait + UNSEEN));
    assert!(!overdue(true, max_wait + UNSEEN + 1), "it wanted nothing, so it waits anew");
}
