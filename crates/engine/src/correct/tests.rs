use domain::budget::Budget as Declared;
use serde_json::{Value, json};
use store::PgPool;

use super::*;
use crate::testing;

const USD: i64 = 1_000_000_000_000;

/// An engine with a budget of ten dollars in all, and one call of unknown outcome that was booked at four.
async fn booked(pool: &PgPool) -> (std::sync::Arc<Engine>, LedgerRow) {
    let (engine, _) = testing::engine(pool, std::time::Duration::from_secs(30)).await;
    let budget: Declared = serde_json::from_value(json!({"limit_usd": "10", "window": "total"})).unwrap();
    budgets::set(&engine.control, "b", &budget, "k").await.unwrap();
    let mut row = testing::call_row(&engine.catalog.get(), 9);
    row.contracted_cost = Some(4 * USD);
    row.cost_other = Some(4 * USD);
    row.price_status = "estimated".to_owned();
    let mut tx = pool.begin().await.unwrap();
    let revision = store::ledger::insert(&mut tx, &[&row]).await.unwrap().unwrap();
    budgets::book_rows(&mut tx, &engine.control.budgets, std::iter::once(&row), revision, RowsOf::Others)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    (engine, row)
}

async fn say(engine: &Engine, of: &str, wanted: NewCharge) -> Result<Corrected, CorrectError> {
    correct(engine, Correction { of, wanted, reason: Some("invoice 7"), by: "k" }).await
}

/// What the ledger adds up to, and what the budget says of it, in pico-USD.
async fn sums(engine: &Engine) -> (i128, i128) {
    let shown = budgets::verify(&engine.control).await.unwrap().remove(0);
    let verified = shown.verified.unwrap();
    assert_eq!(verified.ledger, verified.counted);
    (verified.ledger, shown.standing.taken)
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_wrong_charge_is_taken_back_once_and_budgets_follow(pool: PgPool) {
    let (engine, row) = booked(&pool).await;
    let id = row.attempt_id.to_string();
    assert_eq!(sums(&engine).await.0, i128::from(4 * USD));
    let done = say(&engine, &id, NewCharge::Void).await.unwrap();
    assert_eq!((done.before, done.after), (Some(Money(4 * USD)), Some(Money::ZERO)));
    assert_eq!(done.correction_id, Some(store::ledger::adjustment_id(row.attempt_id)));
    assert_eq!(sums(&engine).await, (0, 0));
    assert_eq!(say(&engine, &id, NewCharge::Void).await.unwrap().correction_id, None, "said twice, booked once");
    // A second correction, and a third that puts it back.
    for cost in [1_234_567, 4 * USD] {
        let done = say(&engine, &id, NewCharge::Cost(Money(cost))).await.unwrap();
        assert!(done.correction_id.is_some() && done.after == Some(Money(cost)), "{done:?}");
        assert_eq!(sums(&engine).await, (i128::from(cost), i128::from(cost)));
    }
    let rows: Vec<(bool, String)> =
        sqlx::query_as("select is_final, record_kind from ledger where corrects_attempt_id is not null")
            .fetch_all(&pool)
            .await
            .unwrap();
    assert_eq!(rows, vec![(false, "adjustment".to_owned()); 3]);
    let lines: Vec<(String, String, Value)> =
        sqlx::query_as("select object, action, details from audit where action = 'correct' order by audit_id")
            .fetch_all(&pool)
            .await
            .unwrap();
    assert_eq!((lines.len(), &lines[0].0), (3, &format!("attempt:{id}")));
    assert_eq!((&lines[0].2["from"], &lines[0].2["reason"]), (&json!("4.00"), &json!("invoice 7")));
}

#[sqlx::test(migrations = "../../migrations")]
async fn the_same_correction_at_the_same_moment_is_booked_once(pool: PgPool) {
    let (engine, row) = booked(&pool).await;
    let id = row.attempt_id.to_string();
    let all = (0..6).map(|_| say(&engine, &id, NewCharge::Cost(Money(USD))));
    let done = futures::future::join_all(all).await;
    let booked = done.into_iter().filter(|done| done.as_ref().unwrap().correction_id.is_some()).count();
    assert_eq!((booked, sums(&engine).await.0), (1, i128::from(USD)));
}

#[sqlx::test(migrations = "../../migrations")]
async fn tokens_are_priced_as_when_the_call_was_made(pool: PgPool) {
    let (engine, mut row) = booked(&pool).await;
    let usage = Usage { input_uncached: Some(1_000), output_text: Some(10), ..Usage::default() };
    let id = row.attempt_id.to_string();
    let deployment = engine.catalog.get().deployment(&row.deployment).unwrap().clone();
    let Some(model) = &deployment.price else {
        let refused = say(&engine, &id, NewCharge::Usage(usage)).await.unwrap_err();
        assert!(matches!(refused, CorrectError::NoPrice { .. }), "{refused}");
        return;
    };
    let price = model.at(row.requested_at, Terms::sync()).unwrap();
    let expected = pricing::charge(&price, &usage).unwrap().contracted_cost;
    for _ in 0..2 {
        assert_eq!(say(&engine, &id, NewCharge::Usage(usage)).await.unwrap().after, expected);
    }
    assert_eq!(sums(&engine).await.0, i128::from(expected.unwrap().pico()));
    // Of a call without a count of its input nobody can tell what it cost.
    let no_input = Usage { output_text: Some(10), ..Usage::default() };
    let refused = say(&engine, &id, NewCharge::Usage(no_input)).await.unwrap_err();
    assert!(matches!(refused, CorrectError::Param("usage", _)), "{refused}");
    row.deployment = "gone".to_owned();
    assert!(matches!(charge(&engine.catalog.get(), &row, &usage), Err(CorrectError::NoPrice { .. })));
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_synchronous_call_is_named_by_its_request_and_nothing_else_is_corrected(pool: PgPool) {
    let (engine, row) = booked(&pool).await;
    let done = say(&engine, &row.request_id, NewCharge::Cost(Money(USD))).await.unwrap();
    assert_eq!(done.attempt_id, row.attempt_id);
    // It still has one attempt, though it has two rows.
    say(&engine, &row.request_id, NewCharge::Void).await.unwrap();
    let of_correction = say(&engine, &done.correction_id.unwrap().to_string(), NewCharge::Void).await;
    assert!(
        matches!(of_correction, Err(CorrectError::NotFound(_) | CorrectError::IsCorrection(..))),
        "{of_correction:?}"
    );
    let unknown = uuid::Uuid::now_v7().to_string();
    assert!(matches!(say(&engine, &unknown, NewCharge::Void).await, Err(CorrectError::NotFound(_))));
    for bad in ["", "attempt", "req_", "req_\0", "req_0000000000001_0"] {
        assert!(matches!(say(&engine, bad, NewCharge::Void).await, Err(CorrectError::BadId(_))), "{bad:?}");
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn the_cost_of_a_job_follows_a_correction_of_its_calls(pool: PgPool) {
    let (engine, mut row) = booked(&pool).await;
    let job = domain::JobId::new(chrono::Utc::now());
    sqlx::query(
        "insert into job (job_id, team_id, key_id, lane, state, accepted, finished_at)
         values ($1, 1, 'k', 'bulk', 'completed', 1, now())",
    )
    .bind(job.0)
    .execute(&pool)
    .await
    .unwrap();
    row.attempt_id = uuid::Uuid::now_v7();
    row.job_id = Some(job.0);
    let mut tx = pool.begin().await.unwrap();
    let revision = store::ledger::insert(&mut tx, &[&row]).await.unwrap().unwrap();
    budgets::book_rows(&mut tx, &engine.control.budgets, std::iter::once(&row), revision, RowsOf::Others)
        .await
        .unwrap();
    let tally = Tally { succeeded: 1, attempts: 1, cost_pico: (4 * USD).into(), ..Tally::default() };
    store::settlement::add_tallies(&mut tx, 9, &BTreeMap::from([(job.0, tally)])).await.unwrap();
    tx.commit().await.unwrap();
    say(&engine, &row.attempt_id.to_string(), NewCharge::Cost(Money(USD))).await.unwrap();
    let found = store::job::get(&mut pool.acquire().await.unwrap(), Scope::All, job).await.unwrap().unwrap();
    assert_eq!((found.cost_usd.0, found.counts.succeeded), (i128::from(USD), 1));
}
