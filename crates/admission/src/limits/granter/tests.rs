//! Rounds against a real Postgres.

use std::time::Instant;

use scheduler::backoff;
use store::PgPool;

use super::*;
use crate::{
    granter::{GRANT_RETENTION_TICKS, TICK_INTERVAL},
    limits::{Permit, Refused, Waiter, refused::Standing},
    testing,
};

const LEASE: Duration = Duration::from_secs(30);

/// A replica that is under a limit of this kind for each of the scopes.
async fn limited(pool: &PgPool, kind: &str, cap: i64, scopes: &[&str]) -> (Arc<AdmissionControl>, Vec<Arc<LimitRule>>) {
    let control = testing::control(pool).await;
    for scope in scopes {
        store::limit::set(&mut pool.acquire().await.unwrap(), scope, kind, cap).await.unwrap();
    }
    reload(&control).await.unwrap();
    let rules = control.limits.rules(scopes);
    (control, rules)
}

/// Another one, beside those that there are.
async fn another(pool: &PgPool, worker_id: i64, scopes: &[&str]) -> (Arc<AdmissionControl>, Vec<Arc<LimitRule>>) {
    let control = testing::replica(pool, worker_id);
    register(pool, worker_id).await;
    reload(&control).await.unwrap();
    let rules = control.limits.rules(scopes);
    (control, rules)
}

async fn register(pool: &PgPool, worker_id: i64) {
    store::worker::register(&mut pool.acquire().await.unwrap(), worker_id, "h", &[], 1, LEASE).await.unwrap();
}

fn take(control: &AdmissionControl, rules: &[Arc<LimitRule>]) -> Option<Permit> {
    control.limits.try_take(rules, 1).ok()
}

fn refused(control: &AdmissionControl, rules: &[Arc<LimitRule>]) -> Refused {
    control.limits.take(rules, 1, Waiter::Caller).unwrap_err()
}

async fn ticks(control: &AdmissionControl, n: u32) {
    for _ in 0..n {
        round(control, Occasion::Tick).await.unwrap();
    }
}

async fn demand(control: &AdmissionControl) {
    round(control, Occasion::Demand).await.unwrap();
}

/// Ticks until a request that was refused for long comes again.
fn longest_pause() -> u32 {
    (backoff::MAX_BACKOFF.as_millis() / TICK_INTERVAL.as_millis()) as u32
}

/// What the database counts as granted to the replica.
async fn recorded(pool: &PgPool, control: &AdmissionControl) -> i64 {
    let sum = "select coalesce(sum(granted), 0)::bigint from limit_use where worker_id = $1";
    sqlx::query_scalar(sum).bind(control.worker_id).fetch_one(pool).await.unwrap()
}

/// All but one of the limit's slots are in use elsewhere.
async fn all_but_one_used_elsewhere(pool: &PgPool, cap: i64) {
    register(pool, 99).await;
    let all_but_one = "insert into limit_use (limit_id, worker_id, granted, used, wanted) select limit_id, 99, $1, $1, $1 from limit_rule";
    sqlx::query(all_but_one).bind(cap - 1).execute(pool).await.unwrap();
}

#[sqlx::test(migrations = "../../migrations")]
async fn the_first_call_after_a_quiet_hour_finds_an_allotment(pool: PgPool) {
    for (kind, scope) in [("slots", "team:1"), ("rpm", "key:k"), ("tpm", "deployment:d")] {
        store::limit::set(&mut pool.acquire().await.unwrap(), scope, kind, 6_000).await.unwrap();
    }
    let (control, rules) = limited(&pool, "slots", 20, &["team:1", "key:k", "deployment:d"]).await;
    let tokens = 50;
    assert!(control.limits.take(&rules, tokens, Waiter::Caller).is_err(), "nothing was granted yet");
    demand(&control).await;
    drop(control.limits.take(&rules, tokens, Waiter::Caller).expect("all that it lacked came in one round"));
    ticks(&control, 4 * 3_600).await;
    drop(control.limits.take(&rules, tokens, Waiter::Caller).expect("nothing is to be fetched"));
    let used: i64 = sqlx::query_scalar("select sum(used)::bigint from limit_use").fetch_one(&pool).await.unwrap();
    assert_eq!(used, 0, "the database knows that nothing is in use");
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_crowd_after_a_pause_finds_what_the_last_crowd_used(pool: PgPool) {
    let (control, rules) = limited(&pool, "slots", 4_096, &["deployment:d"]).await;
    (0..8).for_each(|_| assert!(take(&control, &rules).is_none()));
    demand(&control).await;
    let crowd = || (0..8).filter_map(|_| take(&control, &rules)).collect::<Vec<_>>().len();
    assert_eq!(crowd(), 8);
    ticks(&control, 12).await;
    assert_eq!(crowd(), 8);
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_was_granted_to_one_who_waits_is_there_when_it_comes_again(pool: PgPool) {
    let (control, rules) = limited(&pool, "slots", 5, &["deployment:d"]).await;
    all_but_one_used_elsewhere(&pool, 5).await;
    assert!(take(&control, &rules).is_none(), "nothing was granted yet");
    demand(&control).await;
    ticks(&control, longest_pause()).await;
    let permit = take(&control, &rules).expect("it came as late as it may");
    drop(permit);
    ticks(&control, 1).await;
    assert_eq!(rules[0].left(), 0, "near the limit nothing is kept for calls that are still to come");

    assert!(take(&control, &rules).is_none());
    demand(&control).await;
    ticks(&control, GRANT_RETENTION_TICKS + 1).await;
    assert_eq!((rules[0].left(), recorded(&pool, &control).await), (0, 0), "who does not come again gets nothing kept");
}

#[sqlx::test(migrations = "../../migrations")]
async fn nothing_is_kept_for_a_caller_that_was_told_to_come_again(pool: PgPool) {
    let (control, rules) = limited(&pool, "slots", 5, &["deployment:d"]).await;
    all_but_one_used_elsewhere(&pool, 5).await;
    refused(&control, &rules);
    demand(&control).await;
    ticks(&control, 1).await;
    assert_eq!(recorded(&pool, &control).await, 0);
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_is_kept_of_a_rate_does_not_pile_up_beside_a_later_minutes(pool: PgPool) {
    let (control, rules) = limited(&pool, "rpm", 600, &["deployment:d"]).await;
    (0..20).for_each(|_| assert!(take(&control, &rules).is_none()));
    demand(&control).await;
    assert_eq!(rules[0].left(), 22, "what is needed, and an allotment");
    ticks(&control, longest_pause()).await;
    assert_eq!(rules[0].left(), 3, "what one waits for, and the allotment");
    // An hour later, another replica takes all that there is.
    sqlx::query("update limit_rule set level_at = level_at - interval '1 h'").execute(&pool).await.unwrap();
    let (other, its_rules) = another(&pool, 2, &["deployment:d"]).await;
    (0..100).for_each(|_| assert!(take(&other, &its_rules).is_none()));
    demand(&other).await;
    assert_eq!(its_rules[0].left(), 57);
}

/// Each look finds the first of them that refuses: the others' grants must last until it has come to the last.
#[sqlx::test(migrations = "../../migrations")]
async fn who_is_under_many_limits_gets_through_however_rarely_it_looks(pool: PgPool) {
    let (control, rules) = limited(&pool, "slots", 5, &["team:1", "deployment:d", "deployment:d:shared"]).await;
    all_but_one_used_elsewhere(&pool, 5).await;
    for _ in 0..rules.len() {
        if take(&control, &rules).is_some() {
            return;
        }
        demand(&control).await;
        ticks(&control, longest_pause()).await;
    }
    assert!(take(&control, &rules).is_some());
}

/// Limits that are asked for all the time make rounds all the time; these are no reason to take from others what they hold.
#[sqlx::test(migrations = "../../migrations")]
async fn other_limits_demands_do_not_make_time_pass(pool: PgPool) {
    let (control, rules) = limited(&pool, "slots", 5, &["deployment:d"]).await;
    all_but_one_used_elsewhere(&pool, 5).await;
    assert!(take(&control, &rules).is_none());
    for _ in 0..100 {
        demand(&control).await;
    }
    assert!(take(&control, &rules).is_some());
}

#[sqlx::test(migrations = "../../migrations")]
async fn an_idle_replicas_allotment_is_given_back_to_one_that_is_short(pool: PgPool) {
    for kind in ["slots", "rpm"] {
        let scope = format!("deployment:{kind}");
        let scopes = [scope.as_str()];
        // Of both, eight at once.
        let cap = if kind == "slots" { 8 } else { 80 };
        store::limit::set(&mut pool.acquire().await.unwrap(), &scope, kind, cap).await.unwrap();
        let (idle, idles) = another(&pool, 1, &scopes).await;
        let (busy, rules) = another(&pool, 2, &scopes).await;
        drop(refused(&idle, &idles));
        demand(&idle).await;
        assert!(idles[0].left() > 0);

        let since = Instant::now();
        (0..8).for_each(|_| drop(refused(&busy, &rules)));
        demand(&busy).await;
        let mut calls: Vec<Permit> = std::iter::from_fn(|| take(&busy, &rules)).collect();
        assert!(calls.len() < 8, "{kind}: {}", calls.len());
        let standing = refused(&busy, &rules).standing(since, Instant::now());
        assert_eq!(standing, Standing::Granted, "{kind}: nobody is refused while another replica holds some unused");
        idle.limits.asked_for(&[idles[0].id]);
        demand(&idle).await;
        (calls.len()..8).for_each(|_| drop(refused(&busy, &rules)));
        demand(&busy).await;
        calls.extend(std::iter::from_fn(|| take(&busy, &rules)));
        assert_eq!(calls.len(), 8, "{kind}");
        drop(refused(&busy, &rules));
        demand(&busy).await;
        let standing = refused(&busy, &rules).standing(since, Instant::now());
        assert!(matches!(standing, Standing::Full(_)), "{kind}: {standing:?}");
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_limit_set_anew_starts_afresh_on_all_replicas(pool: PgPool) {
    let scopes = ["deployment:d"];
    let mut conn = pool.acquire().await.unwrap();
    store::limit::set(&mut conn, scopes[0], "tpm", 1_000).await.unwrap();
    let (one, rules) = another(&pool, 1, &scopes).await;
    let (other, others) = another(&pool, 2, &scopes).await;
    // A call that no bucket holds, cut when nobody knows what it used.
    let huge = 1_000_000_000_000;
    assert!(one.limits.take(&rules, huge, Waiter::Caller).is_err());
    demand(&one).await;
    let cut = one.limits.take(&rules, huge, Waiter::Caller).expect("it passes when the bucket is full");
    assert!(take(&other, &others).is_none());
    demand(&other).await;
    assert!(take(&other, &others).is_none(), "it is owed for a minute");
    let level: f64 = sqlx::query_scalar("select level from limit_rule").fetch_one(&pool).await.unwrap();
    assert!((-900.0..0.0).contains(&level), "{level}");

    store::limit::lift(&mut conn, scopes[0], "tpm").await.unwrap();
    store::limit::set(&mut conn, scopes[0], "tpm", 1_000).await.unwrap();
    for control in [&one, &other] {
        reload(control).await.unwrap();
        let rules = control.limits.rules(&scopes);
        assert!(control.limits.take(&rules, 20, Waiter::Caller).is_err());
        demand(control).await;
        assert!(control.limits.take(&rules, 20, Waiter::Caller).is_ok());
    }
    // What ends now ends for a limit that is no more.
    cut.cancel();
    ticks(&one, 8).await;
    let held: i64 = one.limits.rules(&scopes)[0].left();
    assert!(held <= 100, "{held}");
}
