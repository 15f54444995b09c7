use proptest::prelude::*;

use super::*;

fn live(granted: i64, busy: i64) -> OtherGrant {
    OtherGrant { granted, busy, is_alive: true }
}

fn need(busy: i64, spare: i64) -> Need {
    Need { busy, spare, floor: 0 }
}

#[test]
fn a_cap_is_shared_max_min() {
    assert_eq!(fair_share(10, &[100], 100), 10);
    assert_eq!(fair_share(10, &[3, 100], 100), 7);
    assert_eq!(fair_share(10, &[3, 100], 3), 3);
    assert_eq!(fair_share(10, &[100, 100], 100), 5);
    assert_eq!(fair_share(10, &[1, 1], 1), 1);
}

#[test]
fn what_an_even_share_leaves_over_is_used() {
    let share = slots(10, &[live(3, 100), live(3, 100)], 3, need(100, 0), 3);
    assert_eq!((share.granted, share.left, share.is_met), (4, 0.0, false), "three times three is nine");
}

#[test]
fn what_is_far_from_its_limit_keeps_an_allotment() {
    let spare = |cap, others: &[OtherGrant]| slots(cap, others, 0, need(0, 8), 2).granted;
    assert_eq!((spare(4096, &[]), spare(20, &[]), spare(4, &[]), spare(3, &[])), (8, 5, 1, 0));
    assert_eq!(spare(20, &[live(19, 19)]), 0, "and gives it up near the limit");
    assert_eq!(spare(20, &[live(2, 30)]), 0, "and where another replica is short");
}

#[test]
fn what_is_in_use_is_not_taken_away_while_it_asks() {
    let asked = Need { busy: 1, spare: 0, floor: 6 };
    assert_eq!(slots(10, &[live(2, 2)], 1, asked, 2).granted, 6);
    assert_eq!(slots(10, &[live(8, 8)], 1, asked, 2).granted, 2, "never more than there is");
}

#[test]
fn a_debt_never_outlives_a_minute() {
    for owed in [1_000_000, 1_000_000_000_000, i64::MAX] {
        let mut bucket = Bucket::new(600_000, 1_000.0, 0.0);
        bucket.take(&[], need(0, 0), -owed, 0, 1);
        let later = Bucket::new(600_000, bucket.level, 61.0);
        assert!(later.level > 0.0, "{owed} owed: {} a minute later", later.level);
    }
}

#[test]
fn a_call_that_never_fits_passes_when_the_bucket_is_full_and_blocks_it_for_a_minute_at_most() {
    let mut bucket = Bucket::new(1_000, 0.0, f64::INFINITY);
    let share = bucket.take(&[], need(1_000, 0), 0, 1_000, 1);
    assert_eq!((share.granted, share.is_met), (1_000, true));
    assert!(Bucket::new(1_000, bucket.level, 60.1).level > 0.0);
    let mut held_elsewhere = Bucket::new(1_000, 0.0, f64::INFINITY);
    assert_eq!(held_elsewhere.take(&[live(30, 0)], need(1_000, 0), 0, 1_000, 2).granted, 70);
}

#[test]
fn what_replicas_hold_of_a_rate_counts_as_in_its_bucket() {
    let mut bucket = Bucket::new(600, 0.0, f64::INFINITY);
    assert_eq!(bucket.take(&[], need(1, 20), 0, 1, 2).granted, 1 + 14, "a quarter of what is left");
    // An hour later.
    let mut bucket = Bucket::new(600, bucket.level, 3_600.0);
    let share = bucket.take(&[live(14, 0)], need(60, 0), 0, 1, 2);
    assert_eq!(share.granted, 46, "the other replica's fourteen can be spent in the same minute");
}

proptest! {
    /// However replicas ask, what is granted fits the cap.
    #[test]
    fn slots_granted_never_exceed_the_cap(
        cap in 0i64..40,
        asks in proptest::collection::vec((0usize..4, 0i64..30, 0i64..10, 0i64..100), 1..60),
    ) {
        let mut rows = [OtherGrant { granted: 0, busy: 0, is_alive: true }; 4];
        let mut used = [0i64; 4];
        for (who, busy, spare, keeps) in asks {
            let others: Vec<OtherGrant> = (0..4).filter(|n| *n != who).map(|n| rows[n]).collect();
            used[who] = used[who].min(busy) * keeps / 100;
            let need = Need { busy, spare, floor: used[who] };
            let share = slots(cap, &others, used[who], need, 4);
            rows[who] = OtherGrant { granted: share.granted.max(used[who]), busy, is_alive: true };
            used[who] = rows[who].granted.min(busy);
            prop_assert!(rows.iter().map(|row| row.granted).sum::<i64>() <= cap);
            prop_assert!(share.is_met || share.left == 0.0 || rows.iter().any(|row| row.busy > row.granted));
        }
    }

    /// However replicas spend, put back and rest, no minute sees more than the cap.
    #[test]
    fn no_minute_sees_more_than_the_rate(
        cap in 10i64..5_000,
        steps in proptest::collection::vec((0usize..3, 0i64..300, 0i64..100, 0i64..100, 0u32..20_000), 1..80),
    ) {
        let (mut level, mut at, mut now) = (0.0, f64::NEG_INFINITY, 0.0);
        let mut held = [0i64; 3];
        let mut spends: Vec<(f64, i64)> = Vec::new();
        for (who, busy, spare, spends_percent, pause_ms) in steps {
            now += f64::from(pause_ms) / 1e3;
            let others: Vec<OtherGrant> = (0..3).filter(|n| *n != who).map(|n| live(held[n], 0)).collect();
            let mut bucket = Bucket::new(cap, level, now - at);
            let need = Need { busy, spare, floor: held[who] };
            held[who] += bucket.take(&others, need, 0, 1, 3).granted;
            (level, at) = (bucket.level, now);
            let spent = held[who] * spends_percent / 100;
            held[who] -= spent;
            spends.push((now, spent));
            let minute: i64 = spends.iter().filter(|(at, _)| *at > now - 60.0).map(|(_, spent)| spent).sum();
            prop_assert!(minute <= cap.max(10), "{minute} in a minute of {cap}");
        }
    }
}
