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
    let pessimists = [&booked, &lost].map(|row| serde_json::to_value(row).unwrap());
    store::intent::insert(&mut conn, DEAD, &[booked.attempt_id, lost.attempt_id], &pessimists).await.unwrap();
    let answered = LedgerRow { status: "succeeded".to_owned(), error_class: None, ..booked.clone() };
    let mut tx = store::begin(&mut conn).await.unwrap();
    store::ledger::insert(&mut tx, &[std::borrow::Cow::Borrowed(&answered)]).await.unwrap();
    tx.commit().await.unwrap();
    assert!(!chunk(&engine).await.unwrap(), "it is alive");

    store::worker::expire(&mut conn, DEAD).await.unwrap();
    while chunk(&engine).await.unwrap() {}
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
