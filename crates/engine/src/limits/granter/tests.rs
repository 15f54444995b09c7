//! Rounds against a real Postgres.

use store::PgPool;

use super::*;
use crate::{limits::Permit, testing};

/// A replica that is under a limit of this kind for each of the scopes.
async fn limited(pool: &PgPool, kind: &str, cap: i64, scopes: &[&str]) -> (Arc<Engine>, Vec<Arc<Rule>>) {
    let (engine, _) = testing::engine(pool, Duration::from_secs(30)).await;
    for scope in scopes {
        store::limit::set(&mut pool.acquire().await.unwrap(), scope, kind, cap).await.unwrap();
    }
    reload(&engine).await.unwrap();
    let rules = engine.limits.rules(scopes);
    (engine, rules)
}

fn take(engine: &Engine, rules: &[Arc<Rule>]) -> Option<Permit> {
    engine.limits.try_take(rules, 1).ok()
}

async fn ticks(engine: &Engine, n: u32) {
    for _ in 0..n {
        round(engine, Occasion::Tick).await.unwrap();
    }
}

/// Ticks until a request that was refused for long comes again.
fn longest_pause() -> u32 {
    (pause::LONGEST.as_millis() / TICK.as_millis()) as u32
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_was_granted_to_one_who_waits_is_there_when_it_comes_again(pool: PgPool) {
    let (engine, rules) = limited(&pool, "slots", 5, &["deployment:d"]).await;
    assert!(take(&engine, &rules).is_none(), "nothing was granted yet");
    round(&engine, Occasion::Demand).await.unwrap();
    ticks(&engine, longest_pause()).await;
    let permit = take(&engine, &rules).expect("it came as late as it may");
    drop(permit);
    ticks(&engine, SLOTS_EXPIRE + 1).await;
    assert_eq!(rules[0].left(), 0, "nobody waits for it any more");

    assert!(take(&engine, &rules).is_none());
    round(&engine, Occasion::Demand).await.unwrap();
    ticks(&engine, KEPT + 1).await;
    assert_eq!(rules[0].left(), 0, "who does not come again gets nothing kept");
    let used: i64 = sqlx::query_scalar("select sum(granted)::bigint from limit_use").fetch_one(&pool).await.unwrap();
    assert_eq!(used, 0);
}

#[sqlx::test(migrations = "../../migrations")]
async fn of_a_rate_no_more_is_kept_than_one_waits_for(pool: PgPool) {
    let (engine, rules) = limited(&pool, "rpm", 600, &["deployment:d"]).await;
    (0..20).for_each(|_| assert!(take(&engine, &rules).is_none()));
    round(&engine, Occasion::Demand).await.unwrap();
    assert_eq!(rules[0].left(), 20);
    ticks(&engine, longest_pause()).await;
    assert_eq!(rules[0].left(), 1);
    assert!(take(&engine, &rules).is_some());
    assert!(take(&engine, &rules).is_none());
    round(&engine, Occasion::Demand).await.unwrap();
    ticks(&engine, KEPT + 1).await;
    assert_eq!(rules[0].left(), 0, "it does not pile up beside a later minute's");
}

/// Each look finds the first of them that refuses: the others' grants must last until it has come to the last.
#[sqlx::test(migrations = "../../migrations")]
async fn who_is_under_many_limits_gets_through_however_rarely_it_looks(pool: PgPool) {
    let (engine, rules) = limited(&pool, "slots", 5, &["team:1", "deployment:d", "deployment:d:shared"]).await;
    for look in 0..rules.len() {
        assert!(take(&engine, &rules).is_none(), "look {look}");
        round(&engine, Occasion::Demand).await.unwrap();
        ticks(&engine, longest_pause()).await;
    }
    assert!(take(&engine, &rules).is_some());
}

/// Limits that are asked for all the time make rounds all the time; these are no reason to take from others what they hold.
#[sqlx::test(migrations = "../../migrations")]
async fn other_limits_demands_do_not_make_time_pass(pool: PgPool) {
    let (engine, rules) = limited(&pool, "slots", 5, &["deployment:d"]).await;
    assert!(take(&engine, &rules).is_none());
    for _ in 0..100 {
        round(&engine, Occasion::Demand).await.unwrap();
    }
    assert!(take(&engine, &rules).is_some());
}
