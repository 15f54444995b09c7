use super::*;

fn refused(scope: &str, kind: Kind, amount: i64, view: Option<View>) -> Refused {
    Refused { scope: scope.into(), kind, cap: 60, amount, held: 0, is_local: false, view }
}

fn full(asked: Instant) -> View {
    View {
        asked,
        left: 0.0,
        per_s: 0.9,
        burst: 6.0,
        idle_elsewhere: 0,
        word_of: None,
        is_tight: true,
        is_wanted: false,
    }
}

#[test]
fn a_refusal_rests_on_a_view_that_is_newer_than_the_call() {
    let since = Instant::now();
    let (before, after) = (since - Duration::from_millis(1), since + Duration::from_millis(1));
    let standing = |view: Option<View>| refused("team:1", Kind::Slots, 1, view).standing(since, after);
    assert_eq!(standing(None), Standing::Unknown);
    assert_eq!(standing(Some(full(before))), Standing::Unknown);
    assert_eq!(standing(Some(View { left: 1.0, ..full(after) })), Standing::Unknown, "it has room");
    assert_eq!(standing(Some(full(after))), Standing::Full(None));
    assert_eq!(standing(Some(View { idle_elsewhere: 1, ..full(after) })), Standing::Granted);
    assert_eq!(standing(Some(View { word_of: Some(before), ..full(after) })), Standing::Granted);
    assert_eq!(standing(Some(View { word_of: Some(after), ..full(after) })), Standing::Full(None));
}

#[test]
fn retry_after_is_when_the_rate_has_room() {
    let now = Instant::now();
    let after = |amount, left| refused("key:k", Kind::Tpm, amount, Some(View { left, ..full(now) })).retry_after(now);
    assert_eq!(after(4, -0.5), Duration::from_secs(5));
    assert_eq!(after(40, -0.3), Duration::from_secs(7), "a call that never fits passes when the bucket is full");
    assert_eq!(after(1, 0.9), SLOT_RETRY_AFTER);
    let slots = refused("key:k", Kind::Slots, 1, Some(full(now)));
    assert_eq!(slots.retry_after(now), SLOT_RETRY_AFTER);
    let later = now + Duration::from_secs(3);
    let rate = refused("key:k", Kind::Rpm, 1, Some(View { left: -1.0, ..full(now) }));
    assert_eq!(rate.standing(now, later), Standing::Unknown, "it has room by now");
}

#[test]
fn a_refused_caller_is_told_whose_limit_it_is_and_until_when() {
    let now: DateTime<Utc> = "2026-11-23T10:00:00Z".parse().unwrap();
    let told = |scope, kind| refused(scope, kind, 1, None).told("search", Duration::from_secs(5), now);
    let until = "is used up until 2026-11-23T10:00:05Z";
    assert_eq!(told("key:abc", Kind::Rpm), format!("Tollway's limit rpm 60 of key:abc {until}"));
    assert_eq!(told("lane:bulk:team:7", Kind::Tpm), format!("Tollway's limit tpm 60 of lane:bulk:team:search {until}"));
    assert_eq!(
        told("team:7", Kind::Slots),
        "Tollway's limit slots 60 of team:search is used up: 60 calls are under way, and one may start when one of them ends"
    );
}

#[test]
fn an_obstacle_names_the_team() {
    let told = |scope: &str| refused(scope, Kind::Rpm, 1, None).obstacle("search").stored();
    assert_eq!(told("team:7"), "team_limit limit rpm of team:search");
    assert_eq!(told("lane:bulk:team:7"), "lane_limit limit rpm of lane:bulk:team:search");
    assert_eq!(told("key:abc"), "key_limit limit rpm of key:abc");
    assert_eq!(told("deployment:team:7"), "deployment_limit limit rpm of deployment:team:7");
}
