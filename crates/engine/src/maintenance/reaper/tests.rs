use store::PgPool;

use super::*;
use crate::testing;

const DEAD: i64 = 5;

/// An intent may reach the database after its call's row: when its writer had given up on it, or the row overtook it.
#[sqlx::test(migrations = "../../migrations")]
async fn a_call_that_was_booked_is_not_booked_again_for_its_intent(pool: PgPool) {
    let (engine, _) = testing::engine(&pool, Duration::from_secs(30)).await;
    let mut conn = pool.acquire().await.unwrap();
    store::worker::register(&mut conn, DEAD, "h", &["api".to_owned()], 0, Duration::from_secs(30)).await.unwrap();
    let (booked, lost) =
        (testing::call_row(&engine.catalog.get(), DEAD), testing::call_row(&engine.catalog.get(), DEAD));
    let pessimists = [&booked, &lost].map(|row| serde_json::to_string(row).unwrap());
    store::intent::insert(&mut conn, DEAD, &[booked.attempt_id, lost.attempt_id], &pessimists).await.unwrap();
    let answered = LedgerRow { status: "succeeded".to_owned(), error_class: None, ..booked.clone() };
    let mut tx = store::begin(&mut conn).await.unwrap();
    store::ledger::insert(&mut tx, &[std::borrow::Cow::Borrowed(&answered)]).await.unwrap();
    tx.commit().await.unwrap();
    assert!(!chunk(&engine, &mut Vec::new()).await.unwrap(), "it is alive");

    store::worker::expire(&mut conn, DEAD).await.unwrap();
    while chunk(&engine, &mut Vec::new()).await.unwrap() {}
    let mut rows: Vec<(uuid::Uuid, String)> =
        sqlx::query_as("select attempt_id, status from ledger").fetch_all(&pool).await.unwrap();
    rows.sort();
    let mut expected =
        vec![(booked.attempt_id, "succeeded".to_owned()), (lost.attempt_id, "unknown_outcome".to_owned())];
    expected.sort();
    assert_eq!(rows, expected);
    let left = "select (select count(*) from intent) + (select count(*) from worker)";
    assert_eq!(sqlx::query_scalar::<_, i64>(left).fetch_one(&pool).await.unwrap(), 0);
}

/// What a connection holds that nobody ends keeps nobody else waiting.
#[sqlx::test(migrations = "../../migrations")]
async fn a_process_that_is_stuck_in_a_transaction_holds_up_no_other(pool: PgPool) {
    let (engine, _) = testing::engine(&pool, Duration::from_secs(30)).await;
    let mut conn = pool.acquire().await.unwrap();
    let row = |worker| testing::call_row(&engine.catalog.get(), worker);
    for worker in [DEAD, DEAD + 1] {
        store::worker::register(&mut conn, worker, "h", &["api".to_owned()], 0, Duration::ZERO).await.unwrap();
        let intent = row(worker);
        let pessimist = [serde_json::to_string(&intent).unwrap()];
        store::intent::insert(&mut conn, worker, &[intent.attempt_id], &pessimist).await.unwrap();
    }
    let mut held = pool.begin().await.unwrap();
    sqlx::query("select from intent where worker_id = $1 for update").bind(DEAD).execute(&mut *held).await.unwrap();
    let round = async || {
        let mut stuck = Vec::new();
        while chunk(&engine, &mut stuck).await.unwrap() {}
        stuck
    };
    let left = "select worker_id from worker union all select worker_id from intent";
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), round()).await.expect("it waits for nobody"), [DEAD]);
    assert_eq!(sqlx::query_scalar::<_, i64>(left).fetch_all(&pool).await.unwrap(), [DEAD, DEAD]);
    held.rollback().await.unwrap();
    assert_eq!(round().await, Vec::<i64>::new());
    assert_eq!(sqlx::query_scalar::<_, i64>(left).fetch_all(&pool).await.unwrap(), Vec::<i64>::new());
}
