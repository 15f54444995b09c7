use sqlx::PgPool;

use super::*;

/// Of the limit's generation, and what it granted.
async fn ask(pool: &PgPool, worker_id: i64, want: Want) -> Answer {
    let generation = sqlx::query_scalar("select generation from limit_rule").fetch_one(pool).await.unwrap();
    let mut tx = pool.begin().await.unwrap();
    let answers = exchange(&mut tx, worker_id, &[Want { limit_id: 1, generation, ..want }]).await.unwrap();
    tx.commit().await.unwrap();
    answers[0]
}

async fn slots(pool: &PgPool, worker_id: i64, used: i64, busy: i64) -> i64 {
    ask(pool, worker_id, Want { used, busy, ..Want::default() }).await.granted
}

async fn recorded(pool: &PgPool) -> i64 {
    sqlx::query_scalar("select sum(granted)::bigint from limit_use").fetch_one(pool).await.unwrap()
}

async fn set_now(pool: &PgPool, kind: &str, cap: i64) {
    set(&mut pool.acquire().await.unwrap(), "team:1", kind, cap).await.unwrap();
}

async fn replicas(pool: &PgPool, ids: &[i64]) {
    for id in ids {
        let lease = std::time::Duration::from_secs(60);
        crate::worker::register(&mut pool.acquire().await.unwrap(), *id, "h", &[], 1, lease).await.unwrap();
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_lowered_cap_takes_back_what_is_over_as_calls_end(pool: PgPool) {
    set_now(&pool, "slots", 10).await;
    assert_eq!(slots(&pool, 1, 0, 12).await, 10);
    set_now(&pool, "slots", 4).await;
    assert_eq!(slots(&pool, 1, 10, 12).await, 4, "no call starts until fewer than four run");
    assert_eq!(recorded(&pool).await, 10, "but those that run are counted");
    assert_eq!(slots(&pool, 2, 0, 2).await, 0);
    assert_eq!(slots(&pool, 1, 1, 1).await, 1);
    assert_eq!(slots(&pool, 2, 0, 2).await, 2);
    assert!(recorded(&pool).await <= 4);
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_was_not_spent_of_a_rate_goes_back_and_no_more(pool: PgPool) {
    // A bucket of 10, full at first.
    set_now(&pool, "rpm", 100).await;
    let want = |busy, returned| Want { busy, returned, largest: 1, ..Want::default() };
    assert_eq!(ask(&pool, 1, want(10, 0)).await.granted, 10);
    let again = ask(&pool, 1, want(1_000, 6)).await.granted;
    assert!((6..10).contains(&again), "{again} of 6, and what came in meanwhile");
    assert_eq!(ask(&pool, 1, want(1_000, 5_000)).await.granted, 10, "the bucket's measure");
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_limit_set_anew_owes_nothing(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let owes = async || ask(&pool, 1, Want { returned: -1_000_000_000_000, ..Want::default() }).await.left < 0.0;
    let is_full = async || ask(&pool, 2, Want { busy: 10, ..Want::default() }).await.granted == 10;
    set_now(&pool, "tpm", 100).await;
    assert!(owes().await && !is_full().await);
    set_now(&pool, "tpm", 100).await;
    assert!(!is_full().await, "it is the same limit");
    lift(&mut conn, "team:1", "tpm").await.unwrap();
    set_now(&pool, "tpm", 100).await;
    assert!(is_full().await, "it was lifted and set");
    assert!(owes().await);
    set_now(&pool, "tpm", 101).await;
    assert!(is_full().await, "it was changed");
    assert!(owes().await);
    let declare = async |conn: &mut PgConnection, cap| {
        lift(conn, "team:1", "tpm").await.unwrap();
        apply(conn, &[Declared { scope: "team:1".into(), kind: "tpm", cap }]).await.unwrap();
    };
    declare(&mut conn, 101).await;
    assert!(is_full().await, "the file declares it now");
    assert!(owes().await);
    declare(&mut conn, 101).await;
    assert!(!is_full().await, "the same file again");
    declare(&mut conn, 102).await;
    assert!(is_full().await);
}

/// A call that took of the limit before it was set anew puts nothing into the new one's bucket.
#[sqlx::test(migrations = "../../migrations")]
async fn what_was_held_of_an_older_generation_counts_for_nothing(pool: PgPool) {
    set_now(&pool, "tpm", 1_000).await;
    set_now(&pool, "tpm", 100).await;
    let want = Want { limit_id: 1, generation: 0, busy: 5, returned: 1_000, floor: 50, ..Want::default() };
    let answer = exchange(&mut pool.acquire().await.unwrap(), 1, &[want]).await.unwrap()[0];
    assert_eq!((answer.granted, answer.is_outdated, recorded(&pool).await), (0, true, 0));
    assert_eq!(ask(&pool, 2, Want { busy: 1_000, ..Want::default() }).await.granted, 10);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_replica_that_is_short_asks_the_others_and_hears_when_something_came_free(pool: PgPool) {
    replicas(&pool, &[1, 2]).await;
    set_now(&pool, "slots", 8).await;
    let mut listener = crate::connect::listen(&pool, CHANNEL).await.unwrap();
    let mut heard = async || {
        let next = tokio::time::timeout(std::time::Duration::from_secs(5), listener.recv()).await;
        Word::parse(next.expect("nobody was told").unwrap().payload()).unwrap()
    };
    let idle = ask(&pool, 1, Want { busy: 0, spare: 2, ..Want::default() }).await;
    assert_eq!((idle.granted, idle.oldest_word), (2, None));
    let short = ask(&pool, 2, Want { used: 6, busy: 7, asks: true, ..Want::default() }).await;
    assert_eq!((short.granted, short.left, short.idle_elsewhere), (6, 0.0, 2));
    assert!(short.oldest_word.is_some() && short.is_tight);
    assert_eq!(heard().await, Word::Asked { by: 2, limits: vec![1] });
    let told = ask(&pool, 1, Want { spare: 2, ..Want::default() }).await;
    assert_eq!((told.granted, told.is_wanted), (0, true), "nothing is kept where another is short");
    assert_eq!(heard().await, Word::Freed { by: 1, limits: vec![1] });
    assert_eq!(slots(&pool, 2, 6, 7).await, 7);
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_a_dead_replica_was_granted_counts_as_used(pool: PgPool) {
    replicas(&pool, &[2]).await;
    set_now(&pool, "slots", 4).await;
    assert_eq!(slots(&pool, 1, 0, 4).await, 4);
    let short = ask(&pool, 2, Want { busy: 1, asks: true, ..Want::default() }).await;
    assert_eq!((short.granted, short.idle_elsewhere, short.oldest_word), (0, 0, None));
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

/// A deployment's name may begin like another one's parts.
#[sqlx::test(migrations = "../../migrations")]
async fn lifting_a_deployments_parts_leaves_other_deployments_alone(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    for scope in
        ["deployment:a", "deployment:a:shared", "deployment:a:most:bulk", "deployment:a:b", "deployment:a:b:shared"]
    {
        set(&mut conn, scope, "slots", 5).await.unwrap();
    }
    lift_partitions(&mut conn, "deployment:a", "slots", &["deployment:a:most:bulk".to_owned()]).await.unwrap();
    let mut left: Vec<String> = active(&mut conn).await.unwrap().into_iter().map(|row| row.scope).collect();
    left.sort();
    assert_eq!(left, ["deployment:a", "deployment:a:b", "deployment:a:b:shared", "deployment:a:most:bulk"]);
}
