//! The plans of the claim's statements when statistics are stale: made while the tables were all but empty, and not made anew
//! when there is work for days. None of the statements may read a table from end to end for that.

use sqlx::{
    AssertSqlSafe, ConnectOptions, PgConnection, PgPool, Postgres, pool::PoolConnection, query, query_as, query_scalar,
};
use store::{
    claim::{self, FlowRow, ShareRow, Verdicts},
    connect::PoolSizes,
    lease, retention, retry,
};

/// A hundred teams with a hundred jobs each; one of them is large, and has a lease and a retry for each of its requests.
const FILL: &str = "
insert into team (name) select 'team-' || n from generate_series(1, 100) n;
insert into job (job_id, team_id, key_id, lane, state, accepted)
select (extract(epoch from now()) * 1000)::bigint << 22 | n, 1 + n % 100, 'k', 'bulk', 'queued', 1 from generate_series(1, 10000) n;
insert into flow (flow_id, job_id, team_id, lane, route, endpoint, key_id, priority, tail_pos, max_in, max_attempts)
select job_id, job_id, team_id, 'bulk', 'r', 1, 'k', 0, 10000, 10, 5 from job;
insert into share (lane, team_id, blocked_until) select 'bulk', team_id, '-infinity' from team on conflict do nothing;
insert into item (flow_id, pos, line, est_in, custom_id, body)
select (select max(flow_id) from flow), n, n + 1, 10, 'c' || n, '{}' from generate_series(0, 9999) n;
insert into lease (flow_id, pos, epoch, worker_id, attempt_no, attempt_id, deployment, failures)
select flow_id, pos, 1, 1 + pos % 50, 1, gen_random_uuid(), 'd', 0 from item;
insert into retry (flow_id, pos, epoch, attempt_no, failures, due_at)
select flow_id, pos, 1, 1, 0, now() + interval '1 day' from item";

/// Everything a claim, and the end of what it claimed, asks; on one connection, which keeps the plans. Not what is asked of a worker's
/// leases now and then, which reads all leases.
async fn claim_and_end(conn: &mut PgConnection) {
    let shares = claim::lock_shares(conn, &["bulk".to_owned()], 4).await.unwrap();
    let flows = claim::flows(conn, &shares, 8, 64, 64).await.unwrap();
    let ids: Vec<i64> = flows.iter().map(|flow| flow.flow_id).collect();
    claim::take_retries(conn, &ids, &vec![1; ids.len()]).await.unwrap();
    claim::bodies(conn, &ids, &vec![0; ids.len()], &vec![1; ids.len()]).await.unwrap();
    claim::grant(conn, &Verdicts::default()).await.unwrap();
    lease::end(conn, &[lease::LeaseKey { flow_id: 1, pos: 1, epoch: 1 }]).await.unwrap();
    lease::advance(conn, &[]).await.unwrap();
    retry::wake_due(conn).await.unwrap();
}

/// A connection as the product makes it, with all that it sets, after statistics of empty tables.
async fn connect(pool: &PgPool) -> PoolConnection<Postgres> {
    let url = pool.connect_options().to_url_lossy();
    let pools = store::connect(url.as_str(), PoolSizes::default()).unwrap();
    let mut conn = pools.work.acquire().await.unwrap();
    query("analyze").execute(&mut *conn).await.unwrap();
    conn
}

/// Statistics are only what a test makes of them.
async fn without_autovacuum(pool: &PgPool) {
    let tables: Vec<String> = query_scalar(
        "select relname::text from pg_class where relname ~ '^(flow|lease|retry|job|share)$' or relname ~ '^(item|result)_p[0-9]+$' and relkind = 'r'",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    for table in tables {
        let alone = format!("alter table {table} set (autovacuum_enabled = off)");
        query(AssertSqlSafe(alone)).execute(pool).await.unwrap();
    }
}

/// Tables that hold thousands of rows, and how the statements that the connection has prepared would read them from end to end.
async fn full_reads(conn: &mut PgConnection) -> Vec<String> {
    let kept: Vec<(String, String, i32)> = query_as(
        "select name, statement, coalesce(cardinality(parameter_types), 0) from pg_prepared_statements
         where statement ~ '(flow|share|lease|retry|item)' and statement !~ 'pg_(prepared_statements|class)'",
    )
    .fetch_all(&mut *conn)
    .await
    .unwrap();
    assert!(kept.len() >= 8, "statements are not kept: {kept:#?}");
    let full: Vec<String> = query_scalar("select relname::text from pg_class where relname ~ '^(flow|lease|retry|job)$' or relname ~ '^item_p' and pg_relation_size(oid) > 0")
        .fetch_all(&mut *conn)
        .await
        .unwrap();
    let mut found = Vec::new();
    for (name, statement, parameters) in kept {
        // A plan that is kept does not depend on what it is given.
        let given = match parameters {
            0 => String::new(),
            n => format!("({})", vec!["null"; n as usize].join(", ")),
        };
        let explain = format!("explain execute {name}{given}");
        let plan: Vec<String> = query_scalar(AssertSqlSafe(explain)).fetch_all(&mut *conn).await.unwrap();
        let plan = plan.join("\n");
        if full.iter().any(|table| plan.contains(&format!("Seq Scan on {table} "))) {
            found.push(format!("{statement}\n{plan}"));
        }
    }
    found
}

#[sqlx::test(migrations = "../../migrations")]
async fn plans_that_were_kept_are_made_anew_when_their_tables_have_grown(pool: PgPool) {
    without_autovacuum(&pool).await;
    let mut conn = connect(&pool).await;
    // What PostgreSQL comes to after some executions; here from the first.
    query("set plan_cache_mode = force_generic_plan").execute(&mut *conn).await.unwrap();
    claim_and_end(&mut conn).await;
    assert!(!full_reads(&mut conn).await.is_empty(), "then nothing needs to be done about it");
    sqlx::raw_sql(FILL).execute(&pool).await.unwrap();

    // On another connection, as a chore of another replica does.
    let mut other = pool.acquire().await.unwrap();
    let outgrown = retention::outgrown_tables(&mut other).await.unwrap();
    for table in ["flow", "lease", "retry", "job"] {
        assert!(outgrown.iter().any(|name| name == table), "{table} has grown: {outgrown:?}");
    }
    for table in outgrown {
        retention::analyze(&mut other, &table).await.unwrap();
    }
    assert!(retention::outgrown_tables(&mut other).await.unwrap().is_empty());
    let found = full_reads(&mut conn).await;
    assert!(found.is_empty(), "{}", found.join("\n\n"));
}

/// A thousand rows fit into so few pages that the planner likes to read them all, also once for each of sixteen shares.
#[sqlx::test(migrations = "../../migrations")]
async fn a_claim_goes_by_keys_also_where_tables_are_small(pool: PgPool) {
    without_autovacuum(&pool).await;
    let mut conn = connect(&pool).await;
    let fill = "insert into team (name) select 'team-' || n from generate_series(1, 1000) n;
        insert into job (job_id, team_id, key_id, lane, state, accepted)
        select (extract(epoch from now()) * 1000)::bigint << 22 | n, n, 'k', 'bulk', 'queued', 1 from generate_series(1, 1000) n;
        insert into flow (flow_id, job_id, team_id, lane, route, endpoint, key_id, priority, tail_pos, max_in, max_attempts)
        select job_id, job_id, team_id, 'bulk', 'r', 1, 'k', 0, 1, 10, 5 from job;
        insert into share (lane, team_id, blocked_until) select 'bulk', team_id, '-infinity' from team on conflict do nothing";
    sqlx::raw_sql(fill).execute(&pool).await.unwrap();
    for statistics in ["", "analyze"] {
        sqlx::raw_sql(statistics).execute(&pool).await.unwrap();
        query("begin").execute(&mut *conn).await.unwrap();
        let shares = claim::lock_shares(&mut conn, &["bulk".to_owned()], 16).await.unwrap();
        let flows = claim::flows(&mut conn, &shares, 8, 64, 64).await.unwrap();
        assert_eq!(flows.len(), 16);
        claim::grant(&mut conn, &refused(&shares, &flows)).await.unwrap();
        let read: Vec<(String, i64)> = query_as(
            // The shares of a lane are read once, to find those with the lowest level.
            "select relname::text, seq_tup_read from pg_stat_xact_user_tables
             where relname in ('flow', 'job', 'team') and seq_tup_read > 0 or relname = 'share' and seq_tup_read > 1000",
        )
        .fetch_all(&mut *conn)
        .await
        .unwrap();
        assert!(read.is_empty(), "read from end to end: {read:?}, {statistics:?}");
        query("rollback").execute(&mut *conn).await.unwrap();
    }
}

/// What a claim writes when limits let none of them through.
fn refused(shares: &[ShareRow], flows: &[FlowRow]) -> Verdicts {
    Verdicts {
        flow_ids: flows.iter().map(|flow| flow.flow_id).collect(),
        advances: vec![0; flows.len()],
        flow_asleep: vec![false; flows.len()],
        flow_blocked_until: vec![None; flows.len()],
        flow_reasons: vec![None; flows.len()],
        flow_held_since: vec![None; flows.len()],
        share_lanes: shares.iter().map(|share| share.lane.clone()).collect(),
        share_teams: shares.iter().map(|share| share.team_id).collect(),
        share_levels: vec![0; shares.len()],
        share_costs: vec![0; shares.len()],
        share_blocked_until: vec![None; shares.len()],
        share_asleep: vec![false; shares.len()],
    }
}

/// A connection that comes later plans by the tables' sizes, however wrong the statistics are.
#[sqlx::test(migrations = "../../migrations")]
async fn what_is_planned_now_reads_few_rows_whatever_the_statistics_say(pool: PgPool) {
    let mut conn = connect(&pool).await;
    sqlx::raw_sql(FILL).execute(&pool).await.unwrap();
    query("begin").execute(&mut *conn).await.unwrap();
    claim_and_end(&mut conn).await;
    let read: Vec<(String, i64)> = query_as(
        "select relname::text, seq_tup_read from pg_stat_xact_user_tables
         where relname ~ '^(flow|lease|retry|job|item_p.*)$' and seq_tup_read > 500",
    )
    .fetch_all(&mut *conn)
    .await
    .unwrap();
    assert!(read.is_empty(), "read from end to end: {read:?}");
    query("rollback").execute(&mut *conn).await.unwrap();
}
