use chrono::{DateTime, TimeDelta, Utc};
use domain::budget::Scope;
use serde_json::json;
use sqlx::PgPool;

use super::*;

const API: Declarer<'_> = Declarer { is_file: false, by: "test" };

fn budget(usd: &str) -> Budget {
    serde_json::from_value(json!({"limit_usd": usd, "window": "total"})).unwrap()
}

async fn declare(pool: &PgPool, name: &str, budget: &Budget) -> i64 {
    let mut tx = pool.begin().await.unwrap();
    lock_changes(&mut tx).await.unwrap();
    set(&mut tx, name, budget, API).await.unwrap();
    tx.commit().await.unwrap();
    active(&mut pool.acquire().await.unwrap())
        .await
        .unwrap()
        .into_iter()
        .find(|row| row.name == name)
        .unwrap()
        .budget_id
}

async fn count_all(pool: &PgPool) {
    loop {
        let mut tx = pool.begin().await.unwrap();
        let Some(one) = uncounted(&mut tx).await.unwrap() else { return };
        count(&mut tx, &one, Utc::now()).await.unwrap();
        tx.commit().await.unwrap();
    }
}

async fn register(pool: &PgPool, worker_id: i64, roles: &[&str]) {
    let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
    let mut conn = pool.acquire().await.unwrap();
    let lease = std::time::Duration::from_secs(30);
    crate::worker::register(&mut conn, worker_id, "here", &roles, 1, lease).await.unwrap();
}

fn ask(budget_id: i64) -> GrantRequest {
    let span = budget("1").window.span(budget("1").time_zone, Utc::now());
    GrantRequest { budget_id, cell: span.start, since: span.since, until: span.start }
}

/// Takes `wanted` on top of what the worker has, if it is there; gives what it has then.
async fn take(pool: &PgPool, budget_id: i64, worker_id: i64, wanted: i128) -> i128 {
    let mut tx = pool.begin().await.unwrap();
    let locked = lock(&mut tx, &[budget_id]).await.unwrap()[0];
    let taken = taken(&mut tx, worker_id, &[ask(budget_id)]).await.unwrap()[0];
    let fits = locked.is_open && taken.others + taken.mine + wanted <= locked.cap;
    let granted = if fits { taken.mine + wanted } else { taken.mine };
    let put = GrantRow { budget_id, cell: ask(budget_id).cell, granted, reserved: 0, free: 0 };
    give(&mut tx, worker_id, &[put]).await.unwrap();
    tx.commit().await.unwrap();
    granted
}

#[sqlx::test(migrations = "../../migrations")]
async fn concurrent_grants_never_exceed_the_limit(pool: PgPool) {
    let id = declare(&pool, "b", &budget("0.000000001000")).await;
    count_all(&pool).await;
    let all = (1..=8).map(|worker| {
        let pool = pool.clone();
        async move {
            let mut last = 0;
            for _ in 0..30 {
                last = take(&pool, id, worker, 7).await;
            }
            last
        }
    });
    let granted: i128 = futures::future::join_all(all).await.into_iter().sum();
    // 142 × 7 fit, and nobody is refused while seven are left.
    assert_eq!(granted, 994);
}

#[sqlx::test(migrations = "../../migrations")]
async fn nothing_is_granted_before_it_is_counted_and_followed_by_all(pool: PgPool) {
    register(&pool, 1, &["api"]).await;
    let mut conn = pool.acquire().await.unwrap();
    let before = revision(&mut conn).await.unwrap();
    assert!(follow(&mut conn, 1, before).await.unwrap());
    let id = declare(&pool, "b", &budget("1")).await;
    assert!(!follow(&mut conn, 1, before).await.unwrap(), "it follows an old one");
    assert_eq!(take(&pool, id, 2, 5).await, 0, "its past is not counted");
    count_all(&pool).await;
    assert_eq!(take(&pool, id, 2, 5).await, 0, "one replica does not follow it");
    let current = revision(&mut conn).await.unwrap();
    assert!(follow(&mut conn, 1, current).await.unwrap());
    assert_eq!(take(&pool, id, 2, 5).await, 5);
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_the_dead_held_stays_spent_unless_all_their_calls_were_written(pool: PgPool) {
    let id = declare(&pool, "b", &budget("0.0000000001")).await;
    count_all(&pool).await;
    for (worker, roles) in [(1, ["api", "worker"].as_slice()), (2, ["worker"].as_slice())] {
        register(&pool, worker, roles).await;
        assert_eq!(take(&pool, id, worker, 40).await, 40);
    }
    let mut conn = pool.acquire().await.unwrap();
    let spend = |worker_id, amount| Spend { budget_id: id, cell: ask(id).cell, worker_id, amount, corrected: 0 };
    add(&mut conn, &[spend(1, 10), spend(2, 10)]).await.unwrap();
    for worker in [1, 2] {
        let mut tx = pool.begin().await.unwrap();
        close(&mut tx, worker).await.unwrap();
        crate::worker::remove(&mut tx, worker).await.unwrap();
        tx.commit().await.unwrap();
    }
    let now = ask(id);
    let standing = standing(&mut conn, &[(id, now.since, now.until)]).await.unwrap()[0];
    assert_eq!(standing, Standing { spent: 20, reserved: 0, unproven: 30, taken: 50 });
    assert_eq!(take(&pool, id, 3, 51).await, 0);
    assert_eq!(take(&pool, id, 3, 50).await, 50);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_change_of_what_is_counted_is_another_budget(pool: PgPool) {
    let first = declare(&pool, "b", &budget("1")).await;
    count_all(&pool).await;
    let more = declare(&pool, "b", &budget("2")).await;
    assert_eq!(first, more, "only the amount is another");
    let scoped = Budget { scope: Scope { team: Some("a".into()), ..Scope::default() }, ..budget("2") };
    assert_ne!(declare(&pool, "b", &scoped).await, first);
    let mut conn = pool.acquire().await.unwrap();
    let rows = active(&mut conn).await.unwrap();
    assert_eq!((rows.len(), rows[0].is_counted), (1, false));
    remove(&mut conn, "b", "test").await.unwrap();
    assert_eq!(active(&mut conn).await.unwrap(), []);
}

async fn book(conn: &mut PgConnection, team: &str, reserved_at: DateTime<Utc>, cost: i64) {
    sqlx::query(
        "insert into ledger (attempt_id, request_id, attempt_no, attempt_reason, is_final, record_kind, requested_at, completed_at,
             usage_date, reserved_at, team, environment, feature, tags_json, worker_id, provider, deployment, model_requested,
             model_billed, processing, lane, status, billable, cache_hit, price_status, contracted_cost, batch_id)
         values (gen_random_uuid(), 'r', 1, 'primary', true, 'original', $2, $2, ($2 at time zone 'UTC')::date, $2, $1, 'prod', 'f',
             '{\"sprint\": \"42\"}', 1, 'p', 'd', 'm', 'm', 'sync', 'prod', 'succeeded', true, false, 'priced', $3, 0)",
    )
    .bind(team)
    .bind(reserved_at)
    .bind(cost)
    .execute(conn)
    .await
    .unwrap();
}

/// What the ledger has of its window already, and what is counted beside it, each once.
#[sqlx::test(migrations = "../../migrations")]
async fn a_new_budget_begins_with_the_ledgers_spend_of_its_window(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let now = Utc::now();
    for (team, hours_ago, cost) in [("a", 0, 7), ("a", 1, 20), ("b", 0, 500), ("a", 30, 9_000)] {
        let at = now - TimeDelta::hours(hours_ago);
        // The ledger's partitions begin yesterday.
        if at.date_naive() >= now.date_naive().pred_opt().unwrap() {
            book(&mut conn, team, at, cost).await;
        }
    }
    let text = json!({"scope": {"team": "a", "tags": {"sprint": "42"}}, "limit_usd": "1", "window": "rolling 24h"});
    let rolling: Budget = serde_json::from_value(text).unwrap();
    let id = declare(&pool, "b", &rolling).await;
    // Booked after it came, and counted by its own transaction.
    book(&mut conn, "a", now, 3).await;
    let cell = rolling.window.span(rolling.time_zone, now).start;
    add(&mut conn, &[Spend { budget_id: id, cell, worker_id: 1, amount: 3, corrected: 0 }]).await.unwrap();
    count_all(&pool).await;
    let verified = verify(&mut conn, id, &rolling, now).await.unwrap();
    assert_eq!(verified, Verified { ledger: 30, counted: 30 });
    let cells = query_scalar!(r#"select count(*) as "n!" from budget_use where worker_id = 0"#).fetch_one(&mut *conn);
    assert_eq!(cells.await.unwrap(), 2, "an hour apart, so they leave it at different times");
}

fn guarded_by_job(percent: u32) -> Budget {
    let text = json!({"limit_usd": "0.000000001", "window": "month", "guard": {"percent": percent, "per": "1h"}});
    serde_json::from_value(text).unwrap()
}

fn part(budget_id: i64, job: i64) -> SubBudgetKey {
    SubBudgetKey { budget_id, subject: domain::budget::Subject::Job(job), per_s: 3_600 }
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_part_has_one_id_whoever_asks_and_a_limit_that_follows_its_budgets(pool: PgPool) {
    let id = declare(&pool, "b", &guarded_by_job(10)).await;
    let keys = [part(id, 1), part(id, 2)];
    let ask = async || sub_budget_ids(&mut pool.acquire().await.unwrap(), &keys).await.unwrap();
    let (first, second) = tokio::join!(ask(), ask());
    assert_eq!((first.len(), &first), (2, &second));
    assert!(first.values().all(|part| *part > id), "a budget's id is never a part's");
    let locked = async |id: i64| {
        let mut tx = pool.begin().await.unwrap();
        lock_sub_budgets(&mut tx, &[id]).await.unwrap()[0]
    };
    let one = first[&keys[0]];
    assert_eq!(locked(one).await, Locked { budget_id: one, cap: 100, is_open: true });
    declare(&pool, "b", &guarded_by_job(25)).await;
    assert_eq!(locked(one).await.cap, 250);
    let mut conn = pool.acquire().await.unwrap();
    register(&pool, 1, &["worker"]).await;
    sqlx::query("update worker set budgets = 1 where worker_id = 1").execute(&mut *conn).await.unwrap();
    assert!(!locked(one).await.is_open, "a replica has not heard of the change");
    declare(&pool, "b", &Budget { guard: None, ..guarded_by_job(25) }).await;
    assert_eq!(locked(one).await.cap, 0, "nobody guards it");
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_parts_leave_goes_when_it_is_of_no_use(pool: PgPool) {
    let id = declare(&pool, "b", &guarded_by_job(10)).await;
    let mut conn = pool.acquire().await.unwrap();
    let ids = sub_budget_ids(&mut conn, &[part(id, 1)]).await.unwrap();
    let (now, part_id) = (Utc::now(), ids[&part(id, 1)]);
    let spend = |budget_id, hours| Spend {
        budget_id,
        cell: now - TimeDelta::hours(hours),
        worker_id: 1,
        amount: 5,
        corrected: 0,
    };
    add(&mut conn, &[spend(part_id, 1), spend(part_id, 4), spend(part_id, 5), spend(id, 5)]).await.unwrap();
    assert_eq!(forget_sub_budgets(&mut conn, now, 1).await.unwrap(), 1, "so many at once");
    assert_eq!(
        forget_sub_budgets(&mut conn, now, 9).await.unwrap(),
        1,
        "what the guard looks at stays, and so does the budget's"
    );
    assert_eq!(forget_sub_budgets(&mut conn, now, 9).await.unwrap(), 0);
    remove(&mut conn, "b", "test").await.unwrap();
    assert_eq!(
        forget_sub_budgets(&mut conn, now + TimeDelta::hours(9), 9).await.unwrap(),
        2,
        "its last cell, and the part"
    );
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_a_job_may_cost_is_its_own_and_is_counted_until_it_has_ended(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    sqlx::raw_sql(
        "insert into team (name) values ('t');
         insert into job (job_id, team_id, key_id, lane, state) values (7, 1, 'k', 'bulk', 'queued'), (8, 1, 'k', 'bulk', 'queued')",
    )
    .execute(&mut *conn)
    .await
    .unwrap();
    cap_job(&mut conn, 7, 100).await.unwrap();
    cap_job(&mut conn, 7, 250).await.unwrap();
    assert_eq!(capped(&mut conn, &[7, 8]).await.unwrap(), [7]);
    let key = SubBudgetKey::of_job(7);
    let id = sub_budget_ids(&mut conn, std::slice::from_ref(&key)).await.unwrap()[&key];
    let mut tx = pool.begin().await.unwrap();
    assert_eq!(lock_sub_budgets(&mut tx, &[id]).await.unwrap(), [Locked { budget_id: id, cap: 250, is_open: true }]);
    tx.rollback().await.unwrap();
    add(&mut conn, &[Spend { budget_id: id, cell: DateTime::UNIX_EPOCH, worker_id: 1, amount: 5, corrected: 0 }])
        .await
        .unwrap();
    let later = Utc::now() + TimeDelta::hours(9);
    assert_eq!(forget_sub_budgets(&mut conn, later, 9).await.unwrap(), 0, "it runs");
    register(&pool, 1, &["api", "worker"]).await;
    let put = GrantRow { budget_id: id, cell: DateTime::UNIX_EPOCH, granted: 90, reserved: 80, free: 5 };
    give(&mut conn, 1, &[put]).await.unwrap();
    close(&mut conn, 1).await.unwrap();
    let left: i64 = sqlx::query_scalar("select granted::bigint from budget_use").fetch_one(&mut *conn).await.unwrap();
    assert_eq!(left, 5, "each call of a job is booked, whoever died");
    sqlx::query("update job set state = 'completed', finished_at = now() where job_id = 7")
        .execute(&mut *conn)
        .await
        .unwrap();
    assert_eq!(forget_sub_budgets(&mut conn, later, 9).await.unwrap(), 2, "what was counted, and the part");
}

#[sqlx::test(migrations = "../../migrations")]
async fn the_first_sample_since_a_moment_is_found_for_each_budget(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let noon: DateTime<Utc> = "2026-11-23T12:00:00Z".parse().unwrap();
    let sample = |budget_id, minute| Sample {
        budget_id,
        at: noon + TimeDelta::minutes(minute),
        spent: i128::from(minute) * 10i128.pow(24),
    };
    keep_samples(&mut conn, &[sample(1, 0), sample(1, 1), sample(1, 2), sample(2, 5)]).await.unwrap();
    keep_samples(&mut conn, &[Sample { spent: 7, ..sample(1, 2) }]).await.unwrap();
    let asked = [(2, noon), (1, noon + TimeDelta::seconds(61)), (3, noon), (1, noon)];
    let found = first_samples(&mut conn, &asked).await.unwrap();
    assert_eq!(found, [Some(sample(2, 5)), Some(sample(1, 2)), None, Some(sample(1, 0))]);
    assert_eq!(forget_samples(&mut conn, noon + TimeDelta::minutes(2)).await.unwrap(), 2);
    assert_eq!(first_samples(&mut conn, &[(1, noon)]).await.unwrap(), [Some(sample(1, 2))]);
}
