//! What the ledger says of what was held, with Postgres.

use std::time::Duration;

use sqlx::PgPool;

use super::*;
use crate::{AdmissionControl, budgets, budgets::prove::compare, testing};

const LEASE: Duration = Duration::from_secs(30);
const OTHER: i64 = 500;

/// An control that is registered, with a budget `b` that it follows. Gives the budget's id.
async fn control(pool: &PgPool, budget: Value) -> (Arc<AdmissionControl>, i64) {
    let control = testing::control(pool).await;
    register(pool, control.worker_id, &["api", "worker"]).await;
    budgets::follow(&control).await.unwrap();
    set(&control, budget).await;
    let id = control.budgets.index().rules[0].id;
    (control, id)
}

async fn set(control: &AdmissionControl, budget: Value) -> budgets::InForce {
    let budget = serde_json::from_value(budget).unwrap();
    budgets::set(control, "b", &budget, "k").await.unwrap()
}

async fn register(pool: &PgPool, worker_id: i64, roles: &[&str]) {
    let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
    let mut conn = pool.acquire().await.unwrap();
    store::worker::register(&mut conn, worker_id, "here", &roles, 1, LEASE).await.unwrap();
}

fn total(tokens: i64) -> Value {
    json!({"limit_tokens": tokens, "window": "total"})
}

/// A call of the team `t` that holds [`TOKENS`].
async fn hold(control: &AdmissionControl, job: Option<i64>) -> Reservation {
    let ask = ReservationRequest { job, ..ask("t") };
    for _ in 0..200 {
        match control.budgets.reserve(&ask, &deployment("m"), control.clock.now(), Urgency::CanWait) {
            Ok(held) => return held,
            Err(refusal) => control.budgets.missed(&refusal, 1, 1, 1),
        }
        budgets::look(control).await.unwrap();
    }
    panic!("it is never granted")
}

fn fits(control: &AdmissionControl) -> bool {
    let held = control.budgets.reserve(&ask("t"), &deployment("m"), control.clock.now(), Urgency::CanWait);
    held.map(Reservation::release).is_ok()
}

/// Its ledger row, committed as a settlement commits it.
async fn book(control: &AdmissionControl, row: &LedgerRow) {
    let mut tx = control.pools.work.begin().await.unwrap();
    let revision = store::ledger::insert(&mut tx, &[row]).await.unwrap().unwrap();
    budgets::book_rows(&mut tx, &control.budgets, std::iter::once(row), revision, RowsOf::ThisProcess).await.unwrap();
    tx.commit().await.unwrap();
}

fn row_of(control: &AdmissionControl, tokens: i64) -> LedgerRow {
    let mut row = testing::call_row(control.worker_id);
    (row.prompt_total, row.input_uncached) = (Some(tokens), Some(tokens));
    row
}

async fn compared(control: &AdmissionControl) {
    let mut conn = control.pools.work.acquire().await.unwrap();
    compare(&control.budgets, &mut conn, control.worker_id).await.unwrap();
    drop(conn);
    budgets::look(control).await.unwrap();
}

/// All doubts of the process are older than it takes others to book.
fn a_moment_later(control: &AdmissionControl) {
    for rule in &control.budgets.index().rules {
        rule.state().cells.iter_mut().for_each(|cell| cell.doubts.clear());
    }
}

async fn standing(control: &AdmissionControl) -> store::budget::Standing {
    budgets::show(control).await.unwrap().remove(0).standing
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_a_living_replica_gave_up_is_proven_by_the_ledger(pool: PgPool) {
    let (control, _) = control(&pool, total(1_000)).await;
    hold(&control, Some(7)).await.forfeit();
    budgets::look(&control).await.unwrap();
    compared(&control).await;
    assert_eq!(standing(&control).await.unproven, TOKENS, "whoever took its lease may book it yet");
    book(&control, &row_of(&control, 30)).await;
    a_moment_later(&control);
    compared(&control).await;
    let now = standing(&control).await;
    assert_eq!((now.spent, now.unproven), (30, 0), "{now:?}");
    assert_eq!(control.budgets.index().rules[0].state().cells[0].account.used, 30);
}

#[sqlx::test(migrations = "../../migrations")]
async fn of_a_call_of_which_the_ledger_says_nothing_what_it_held_stays_unproven(pool: PgPool) {
    let (control, _) = control(&pool, total(1_000)).await;
    let lost = hold(&control, None).await;
    lost.mark_sent();
    drop(lost);
    a_moment_later(&control);
    budgets::look(&control).await.unwrap();
    compared(&control).await;
    assert_eq!(standing(&control).await.unproven, TOKENS, "nobody knows better");
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_was_corrected_is_there_again_within_a_total(pool: PgPool) {
    let (control, _) = control(&pool, total(300)).await;
    let held = hold(&control, Some(7)).await;
    let row = row_of(&control, 190);
    book(&control, &row).await;
    held.settle(&row);
    budgets::look(&control).await.unwrap();
    assert!(!fits(&control), "190 of 300 are spent");
    // Another replica corrects it to 40.
    let correction = LedgerRow {
        attempt_id: store::ledger::adjustment_id(row.attempt_id),
        corrects_attempt_id: Some(row.attempt_id),
        record_kind: "adjustment".to_owned(),
        prompt_total: Some(-150),
        ..row.clone()
    };
    let other = budgets::Budgets::default();
    let mut tx = pool.begin().await.unwrap();
    let revision = store::ledger::insert(&mut tx, &[&correction]).await.unwrap().unwrap();
    budgets::book_rows(&mut tx, &other, std::iter::once(&correction), revision, RowsOf::Others).await.unwrap();
    tx.commit().await.unwrap();
    compared(&control).await;
    let now = standing(&control).await;
    assert_eq!((now.spent, now.unproven), (40, 0), "{now:?}");
    hold(&control, Some(7)).await.release();
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_somebody_else_booked_beyond_is_not_spent_twice(pool: PgPool) {
    let (control, _) = control(&pool, total(500)).await;
    let held = hold(&control, Some(7)).await;
    let row = row_of(&control, 100);
    book(&control, &row).await;
    held.settle(&row);
    let more = LedgerRow {
        attempt_id: store::ledger::adjustment_id(row.attempt_id),
        corrects_attempt_id: Some(row.attempt_id),
        prompt_total: Some(350),
        ..row.clone()
    };
    book(&control, &more).await;
    // The first time it may be a call that is committed and not settled yet.
    for expected in [100, 450] {
        compared(&control).await;
        assert_eq!(control.budgets.index().rules[0].state().cells[0].account.used, expected);
    }
    assert!(!fits(&control), "450 of 500 are spent");
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_correction_of_the_dead_takes_back_what_it_says_and_no_more(pool: PgPool) {
    let (control, id) = control(&pool, total(1_000)).await;
    register(&pool, OTHER, &["api"]).await;
    let mut conn = pool.acquire().await.unwrap();
    let cell = chrono::DateTime::UNIX_EPOCH;
    let put = store::budget::GrantRow { budget_id: id, cell, granted: 300, reserved: 0, free: 0 };
    store::budget::give(&mut conn, OTHER, &[put]).await.unwrap();
    let unknown = LedgerRow { worker_id: OTHER, ..row_of(&control, 200) };
    book(&control, &unknown).await;
    store::budget::close(&mut conn, OTHER).await.unwrap();
    store::worker::remove(&mut conn, OTHER).await.unwrap();
    assert_eq!(standing(&control).await.unproven, 100);
    let correction = LedgerRow {
        attempt_id: store::ledger::adjustment_id(unknown.attempt_id),
        corrects_attempt_id: Some(unknown.attempt_id),
        prompt_total: Some(-160),
        ..unknown.clone()
    };
    book(&control, &correction).await;
    let now = standing(&control).await;
    assert_eq!((now.spent, now.unproven, now.taken), (40, 100, 140), "{now:?}");
}

/// Its row is committed under the budget before this replica follows it, and it is adopted all the same.
#[sqlx::test(migrations = "../../migrations")]
async fn a_call_that_ends_while_its_budget_comes_is_counted_once(pool: PgPool) {
    let control = testing::control(&pool).await;
    register(&pool, control.worker_id, &["api"]).await;
    budgets::follow(&control).await.unwrap();
    let held = hold(&control, None).await;
    let mut tx = pool.begin().await.unwrap();
    store::budget::lock_changes(&mut tx).await.unwrap();
    let budget = serde_json::from_value(total(1_000)).unwrap();
    let by = store::budget::Declarer { is_file: false, by: "k" };
    store::budget::set(&mut tx, "b", &budget, by).await.unwrap();
    tx.commit().await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    let revision = store::budget::revision(&mut conn).await.unwrap();
    let rows = store::budget::active(&mut conn).await.unwrap();
    control.budgets.turn_to(revision, rows);
    let row = row_of(&control, 60);
    book(&control, &row).await;
    held.settle(&row);
    for _ in 0..2 {
        budgets::look(&control).await.unwrap();
    }
    a_moment_later(&control);
    compared(&control).await;
    let now = standing(&control).await;
    assert_eq!((now.spent, now.taken, now.unproven), (60, 60, 0), "{now:?}");
}

#[sqlx::test(migrations = "../../migrations")]
async fn at_rest_nothing_is_left_reserved_or_unproven(pool: PgPool) {
    let (control, _) =
        control(&pool, json!({"limit_tokens": 10_000, "window": "total", "guard": {"percent": 90, "per": "1h"}})).await;
    for n in 0..8 {
        let held = hold(&control, (n % 2 == 0).then_some(7)).await;
        match n % 4 {
            0 | 1 => {
                let row = LedgerRow { job_id: (n % 2 == 0).then_some(7), ..row_of(&control, 10) };
                book(&control, &row).await;
                held.settle(&row);
            }
            2 => held.release(),
            _ => drop(held),
        }
    }
    for _ in 0..3 {
        compared(&control).await;
    }
    let now = standing(&control).await;
    assert_eq!((now.spent, now.reserved, now.unproven, now.taken), (40, 0, 0, 40), "{now:?}");
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_change_is_answered_when_all_living_replicas_hold_it(pool: PgPool) {
    let (control, _) = control(&pool, total(1_000)).await;
    register(&pool, OTHER, &["api"]).await;
    let mut conn = pool.acquire().await.unwrap();
    let before = store::budget::revision(&mut conn).await.unwrap();
    assert!(store::budget::follow(&mut conn, OTHER, before).await.unwrap());
    let late = set(&control, total(900)).await;
    assert!(!late.is_everywhere() && late.since().is_none(), "{late:?}");
    let holds: Vec<(i64, bool)> = late.replicas.iter().map(|one| (one.worker_id, one.follows)).collect();
    assert_eq!(holds, [(control.worker_id, true), (OTHER, false)]);
    // The other one follows a moment after the change.
    let following = tokio::spawn({
        let pool = pool.clone();
        async move {
            let mut conn = pool.acquire().await.unwrap();
            loop {
                let revision = store::budget::revision(&mut conn).await.unwrap();
                if revision > before + 1 && store::budget::follow(&mut conn, OTHER, revision).await.unwrap() {
                    return chrono::Utc::now();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    let held = set(&control, total(800)).await;
    assert!(held.is_everywhere(), "{held:?}");
    following.await.unwrap();
    assert!(held.since().is_some() && held.replicas.iter().all(|one| one.since <= held.since()), "{held:?}");
    // A replica that is gone keeps nobody waiting.
    store::worker::expire(&mut conn, OTHER).await.unwrap();
    assert!(budgets::remove(&control, "b", "k").await.unwrap().is_everywhere());
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_was_granted_under_a_higher_limit_is_not_spent_under_a_lower_one(pool: PgPool) {
    let (control, _) = control(&pool, total(100_000)).await;
    for _ in 0..3 {
        hold(&control, None).await.release();
        budgets::look(&control).await.unwrap();
    }
    hold(&control, None).await.release();
    assert!(fits(&control), "some is granted ahead of need");
    let spent = hold(&control, None).await;
    assert!(set(&control, total(300)).await.is_everywhere());
    assert!(!fits(&control), "200 of 300 are held, and nothing is left of what was granted before");
    spent.release();
    hold(&control, None).await.release();
}

/// Neither before its row exists, nor afterwards.
#[sqlx::test(migrations = "../../migrations")]
async fn the_first_calls_under_a_budget_come_at_once_and_as_many_fit_as_fit(pool: PgPool) {
    let (control, _) = control(&pool, total(1_000)).await;
    let call = async |flow: i64| {
        for _ in 0..10 {
            match control.budgets.reserve(&ask("t"), &deployment("m"), control.clock.now(), Urgency::CanWait) {
                Ok(held) => return Some(held),
                Err(refusal) => control.budgets.missed(&refusal, 1, flow, 1),
            }
            budgets::look(&control).await.unwrap();
        }
        None
    };
    let held: Vec<Reservation> = futures::future::join_all((0..20).map(call)).await.into_iter().flatten().collect();
    assert_eq!(held.len(), 5, "of 1,000 tokens five calls of 200");
    drop(held);
    compared(&control).await;
    let now = standing(&control).await;
    assert_eq!((now.spent, now.reserved, now.unproven), (0, 0, 0), "{now:?}");
}
