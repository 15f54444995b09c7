//! Claims of a real queue.

use admission::budgets;
use serde_json::json;
use store::PgPool;

use super::*;
use crate::testing;

/// Jobs of one request each, all of one team: as many as this.
async fn jobs_of_one(pool: &PgPool, count: i32) {
    for statement in [
        "insert into job (job_id, team_id, key_id, lane, state, accepted)
         select (extract(epoch from now()) * 1000)::bigint << 22 | n, 1, 'k', 'bulk', 'queued', 1
         from generate_series(1, $1) n",
        "insert into flow (flow_id, job_id, team_id, lane, route, endpoint, key_id, priority, tail_pos, max_in, max_attempts)
         select job_id, job_id, 1, 'bulk', 'chat', 1, 'k', 0, 1, 9, 5 from job limit $1",
        "insert into item (flow_id, pos, line, est_in, custom_id, body)
         select flow_id, 0, 1, 9, 'c', '{}' from flow limit $1",
        "insert into share (lane, team_id, blocked_until) select 'bulk', 1, '-infinity'::timestamptz where $1 > 0",
    ] {
        sqlx::query(statement).bind(count).execute(pool).await.unwrap();
    }
}

async fn is_awake(pool: &PgPool) -> bool {
    sqlx::query_scalar("select blocked_until <= now() from share").fetch_one(pool).await.unwrap()
}

/// To know that nothing is left, a claim would have to look through all of a team's jobs, of which there may be a million. It
/// looks once more instead.
#[sqlx::test(migrations = "../../migrations")]
async fn a_share_of_which_as_many_flows_as_usual_were_read_stays_awake(pool: PgPool) {
    let (engine, _) = testing::engine(&pool, Duration::from_secs(30)).await;
    jobs_of_one(&pool, 8).await;
    let (requests, _) = claim(&engine, 1).await.unwrap();
    assert_eq!(requests.len(), 8);
    assert!(is_awake(&pool).await, "there may be a ninth");
    let (none, found) = claim(&engine, 1).await.unwrap();
    assert_eq!((none.len(), found), (0, ClaimOutcome::Nothing { look_again: Duration::MAX }));
    assert!(!is_awake(&pool).await, "then it sleeps until it is woken");
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_share_of_which_all_flows_were_read_sleeps_at_once(pool: PgPool) {
    let (engine, _) = testing::engine(&pool, Duration::from_secs(30)).await;
    jobs_of_one(&pool, 7).await;
    assert_eq!(claim(&engine, 1).await.unwrap().0.len(), 7);
    assert!(!is_awake(&pool).await);
}

/// Near its limit a budget grants nothing ahead of need. What a claim lacks is all that could start, or a job would crawl to its limit
/// by one request a round.
#[sqlx::test(migrations = "../../migrations")]
async fn what_is_left_of_a_budget_is_granted_for_all_that_could_start(pool: PgPool) {
    let (engine, _) = testing::engine(&pool, Duration::from_secs(30)).await;
    let budget = serde_json::from_value(json!({"limit_tokens": 100_000, "window": "total"})).unwrap();
    budgets::set(&engine.control, "b", &budget, "k").await.unwrap();
    budgets::look(&engine.control).await.unwrap();
    let spent = "insert into budget_use (budget_id, cell, worker_id, granted, spent)
                 select budget_id, to_timestamp(0), 0, 92000, 92000 from budget
                 on conflict (budget_id, cell, worker_id) do update set granted = 92000, spent = 92000";
    sqlx::query(spent).execute(&pool).await.unwrap();
    budgets::look(&engine.control).await.unwrap();
    jobs_of_one(&pool, 8).await;
    sqlx::query("update flow set max_out = 10").execute(&pool).await.unwrap();
    assert_eq!(claim(&engine, 1).await.unwrap().0.len(), 0, "nothing is granted ahead of need");
    budgets::look(&engine.control).await.unwrap();
    for table in ["flow", "share"] {
        let wake = sqlx::AssertSqlSafe(format!("update {table} set blocked_until = '-infinity'"));
        sqlx::query(wake).execute(&pool).await.unwrap();
    }
    assert_eq!(claim(&engine, 1).await.unwrap().0.len(), 8, "one round later all of them have what they need");
}

/// What was taken for calls that are not made burns no limit, and blocks no probe.
#[sqlx::test(migrations = "../../migrations")]
async fn a_claim_that_fails_gives_everything_back(pool: PgPool) {
    let (engine, _) = testing::engine(&pool, Duration::from_secs(30)).await;
    store::limit::set(&mut pool.acquire().await.unwrap(), "deployment:priced-model", "rpm", 600).await.unwrap();
    admission::limits::reload(&engine.control).await.unwrap();
    let rules = engine.control.limits.rules(&["deployment:priced-model"]);
    rules[0].grant(5);
    let (deployment, team): (Arc<str>, Arc<str>) = ("priced-model".into(), "t".into());
    engine.control.health.failed(admission::route::Failure {
        deployment: &deployment,
        team: &team,
        request: 1,
        class: domain::ErrorClass::Throttled,
        retry_after: Some(Duration::ZERO),
        began: std::time::Instant::now(),
    });
    jobs_of_one(&pool, 3).await;
    for (table, moved) in [("lease", "gone"), ("gone", "lease")] {
        let rename = sqlx::AssertSqlSafe(format!("alter table {table} rename to {moved}"));
        sqlx::query(rename).execute(&pool).await.unwrap();
        if table == "lease" {
            assert!(claim(&engine, 1).await.is_err());
        }
        assert_eq!((rules[0].left(), engine.slots.free()), (5, engine.slots.total()));
        assert_eq!(engine.control.health.ready(&deployment, &team), Ok(()), "the next call is the probe");
    }
    assert_eq!(claim(&engine, 1).await.unwrap().0.len(), 1, "the probe");
    assert_eq!(rules[0].left(), 4);
}

/// A limit was lowered after the jobs were submitted: what fits into it starts, and what does not fails with the figures instead of
/// waiting for ever.
#[sqlx::test(migrations = "../../migrations")]
async fn a_request_larger_than_a_lowered_limit_is_failed_with_its_figures(pool: PgPool) {
    let (engine, _) = testing::engine(&pool, Duration::from_secs(30)).await;
    store::limit::set(&mut pool.acquire().await.unwrap(), "deployment:priced-model", "tpm", 100).await.unwrap();
    admission::limits::reload(&engine.control).await.unwrap();
    engine.control.limits.rules(&["deployment:priced-model"])[0].grant(200);
    jobs_of_one(&pool, 2).await;
    for statement in [
        "update flow set max_out = 5000",
        "update item set max_out = case when flow_id = (select min(flow_id) from flow) then 10 else 5000 end",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    let (mut requests, _) = claim(&engine, 1).await.unwrap();
    requests.sort_by_key(|request| request.max_out);
    let said: Vec<Option<String>> =
        requests.iter().map(|request| request.never_fits.as_ref().map(ToString::to_string)).collect();
    assert_eq!(said.len(), 2);
    assert_eq!(said[0], None);
    let figures = "asks 5009 tokens, limit 100 tokens a minute (tpm of deployment:priced-model)";
    assert!(said[1].as_ref().is_some_and(|said| said.contains(figures)), "{said:?}");
}
