use sqlx::PgPool;

use super::*;

#[test]
fn a_cap_is_parted_max_min() {
    assert_eq!(fair_part(10, &[100], 100), 10);
    assert_eq!(fair_part(10, &[3, 100], 100), 7);
    assert_eq!(fair_part(10, &[3, 100], 3), 3);
    assert_eq!(fair_part(10, &[100, 100], 100), 5);
    assert_eq!(fair_part(10, &[1, 1], 1), 1);
}

async fn ask(pool: &PgPool, worker_id: i64, used: i64, wanted: i64) -> i64 {
    let mut tx = pool.begin().await.unwrap();
    let granted = grant_slots(&mut tx, worker_id, &[Want { limit_id: 1, used, wanted }]).await.unwrap();
    tx.commit().await.unwrap();
    granted[&1]
}

async fn recorded(pool: &PgPool) -> i64 {
    sqlx::query_scalar("select sum(granted)::bigint from limit_use").fetch_one(pool).await.unwrap()
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_lowered_cap_takes_back_what_is_over_as_calls_end(pool: PgPool) {
    set(&mut pool.acquire().await.unwrap(), "team:1", "slots", 10).await.unwrap();
    assert_eq!(ask(&pool, 1, 0, 12).await, 10);
    set(&mut pool.acquire().await.unwrap(), "team:1", "slots", 4).await.unwrap();
    assert_eq!(ask(&pool, 1, 10, 12).await, 4, "no call starts until fewer than four run");
    assert_eq!(recorded(&pool).await, 10, "but those that run are counted");
    assert_eq!(ask(&pool, 2, 0, 2).await, 0);
    assert_eq!(ask(&pool, 1, 1, 1).await, 1);
    assert_eq!(ask(&pool, 2, 0, 2).await, 2);
    assert!(recorded(&pool).await <= 4);
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_was_not_spent_of_a_rate_goes_back_and_no_more(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    // A bucket of 10, full at first.
    set(&mut conn, "team:1", "rpm", 100).await.unwrap();
    let want = |wanted| Want { limit_id: 1, used: 1, wanted };
    assert_eq!(grant_rate(&mut conn, &[want(10)]).await.unwrap()[&1], 10);
    return_rate(&mut conn, &[1], &[6]).await.unwrap();
    let again = grant_rate(&mut conn, &[want(1_000)]).await.unwrap()[&1];
    assert!((6..10).contains(&again), "{again} of 6, and what came in meanwhile");
    return_rate(&mut conn, &[1], &[5_000]).await.unwrap();
    assert_eq!(grant_rate(&mut conn, &[want(1_000)]).await.unwrap()[&1], 10, "the bucket's measure");
}

#[sqlx::test(migrations = "../../migrations")]
async fn the_api_sets_and_lifts_only_what_is_its_own(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    apply(&mut conn, &[Declared { scope: "team:1".into(), kind: "slots", cap: 7 }]).await.unwrap();
    set(&mut conn, "team:1", "slots", 9).await.unwrap();
    lift(&mut conn, "team:1", "slots").await.unwrap();
    let rows = active(&mut conn).await.unwrap();
    assert_eq!((rows.len(), rows[0].cap, rows[0].managed_by.as_str()), (1, 7, "file"));
    // No longer declared, it is free to be set.
    apply(&mut conn, &[]).await.unwrap();
    set(&mut conn, "team:1", "slots", 9).await.unwrap();
    let rows = active(&mut conn).await.unwrap();
    assert_eq!((rows.len(), rows[0].cap, rows[0].managed_by.as_str()), (1, 9, "api"));
    lift(&mut conn, "team:1", "slots").await.unwrap();
    assert_eq!(active(&mut conn).await.unwrap(), []);
}
