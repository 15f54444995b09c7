use chrono::Utc;
use serde_json::{Value, json};
use sqlx::{Connection, PgPool};

use super::*;

/// A call of the team's feature, with all that is not optional.
fn call(n: u128, feature: &str) -> LedgerRow {
    let now = Utc::now();
    serde_json::from_value(json!({
        "attempt_id": Uuid::from_u128(n), "request_id": format!("req_{n}"), "job_id": 7, "custom_id": format!("doc-{n}"),
        "attempt_no": 1, "attempt_reason": "primary", "is_final": true, "record_kind": "original", "requested_at": now,
        "completed_at": now, "recorded_at": now, "usage_date": now.date_naive(), "reserved_at": now, "team": "search",
        "environment": "production", "feature": feature, "tags_json": "{\"corpus\":\"a, \\\"b\\\"\"}", "worker_id": 3,
        "provider": "p", "deployment": "d", "model_requested": "m", "model_billed": "m-1", "processing": "sync", "lane": "bulk",
        "output_text": n as i64, "status": "succeeded", "http_status": 200, "billable": true, "cache_hit": false,
        "contracted_cost": 12, "price_version": "v1", "price_status": "priced",
    }))
    .unwrap()
}

/// All rows by attempt, as whoever reads the ledger sees them.
async fn rows(conn: &mut PgConnection) -> Vec<Value> {
    sqlx::query_scalar("select to_jsonb(l) from ledger l order by attempt_id").fetch_all(conn).await.unwrap()
}

async fn contexts(conn: &mut PgConnection) -> i64 {
    sqlx::query_scalar("select count(*) from ledger_context").fetch_one(conn).await.unwrap()
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_rows_have_in_common_is_kept_once(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    // By turns, so that a row's context is not always that of the row before.
    let calls: Vec<LedgerRow> = (0..60).map(|n| call(n, ["chat", "query", "reindex"][n as usize % 3])).collect();
    for settlement in calls.chunks(20) {
        insert(&mut conn, settlement).await.unwrap();
    }
    assert_eq!(contexts(&mut conn).await, 3);
    let found = rows(&mut conn).await;
    assert_eq!(found.len(), calls.len());
    for (found, call) in found.into_iter().zip(calls) {
        let recorded_at = serde_json::from_value(found["recorded_at"].clone()).unwrap();
        let read: LedgerRow = serde_json::from_value(found).unwrap();
        // PostgreSQL keeps microseconds.
        let now = read.requested_at;
        let times = LedgerRow { recorded_at, requested_at: now, completed_at: now, reserved_at: now, ..call };
        assert_eq!(read, times);
    }
}

/// The second waits for the first, and neither for the other.
#[sqlx::test(migrations = "../../migrations")]
async fn settlements_that_bring_the_same_new_context_both_succeed(pool: PgPool) {
    let (mut one, mut two) = (pool.begin().await.unwrap(), pool.begin().await.unwrap());
    insert(&mut one, &[call(1, "b"), call(2, "a")]).await.unwrap();
    let later = tokio::spawn(async move {
        insert(&mut two, &[call(3, "a"), call(4, "b")]).await.unwrap();
        two.commit().await.unwrap();
    });
    one.commit().await.unwrap();
    later.await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    assert_eq!((rows(&mut conn).await.len(), contexts(&mut conn).await), (4, 2));
}

#[sqlx::test(migrations = "../../migrations")]
async fn an_attempt_has_one_row(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    insert(&mut conn, &[call(1, "a")]).await.unwrap();
    let error = insert(&mut conn, &[call(1, "b")]).await.unwrap_err();
    assert!(error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation), "{error}");
}

/// A day of 200,000 rows, of which nobody made statistics.
#[sqlx::test(migrations = "../../migrations")]
async fn a_segments_rows_are_found_by_their_batches(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    insert(&mut conn, &[call(1, "a")]).await.unwrap();
    let today: NaiveDate =
        sqlx::query_scalar("select (now() at time zone 'UTC')::date").fetch_one(&mut *conn).await.unwrap();
    let many =
        "insert into ledger_entry (requested_at, completed_at, reserved_at, batch_id, usage_date, attempt_no, is_final,
                    attempt_id, context_id, price_status, request_id)
                select now(), now(), now(), 10 + n / 100, $1, 1, true, gen_random_uuid(), context_id,
                       'unpriced', 'r' || n
                from generate_series(1, 200000) n, ledger_context";
    sqlx::query(many).bind(today).execute(&mut *conn).await.unwrap();
    let frozen = "insert into ledger_batch select b, $1, 100, case when b < 20 then 1 end
                  from generate_series(10, 2010) b";
    sqlx::query(frozen).bind(today).execute(&mut *conn).await.unwrap();
    // What autovacuum does as pages fill up, and may have begun already.
    let summarize = "select brin_summarize_new_values(i.indexrelid)
                     from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am a on a.oid = c.relam
                     where a.amname = 'brin' and c.relkind = 'i'";
    sqlx::query(summarize).execute(&mut *conn).await.unwrap();
    let plan: Vec<String> = sqlx::query_scalar(
        "explain (analyze, timing off, costs off) select * from ledger_entry l join ledger_context using (context_id)
         where usage_date = $1
           and batch_id >= (select min(b.batch_id) from ledger_batch b where b.segment_id = 1)
           and batch_id <= (select max(b.batch_id) from ledger_batch b where b.segment_id = 1)
           and batch_id = any(array(select b.batch_id from ledger_batch b where b.segment_id = 1))
         order by attempt_id",
    )
    .bind(today)
    .fetch_all(&mut *conn)
    .await
    .unwrap();
    let plan = plan.join("\n");
    assert!(plan.contains("Bitmap Index Scan") && !plan.contains("Seq Scan on ledger_entry"), "{plan}");
}

/// Rows of a version before this one become what they were, and its replicas go on writing while they are replaced.
#[sqlx::test(migrations = false)]
async fn a_ledger_of_whole_rows_is_taken_over(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let all = sqlx::migrate!("../../migrations");
    let (before, after): (Vec<_>, Vec<_>) = all.iter().partition(|migration| migration.version < 15);
    for migration in before {
        sqlx::raw_sql(migration.sql.clone()).execute(&mut *conn).await.unwrap();
    }
    let insert = |rows: Vec<LedgerRow>| {
        sqlx::query(
            "insert into ledger select (jsonb_populate_record(null::ledger, value || '{\"batch_id\": 5}')).* from jsonb_array_elements($1)",
        )
        .bind(Json(rows))
    };
    let unpriced = LedgerRow { price_status: "unpriced".into(), contracted_cost: None, ..call(3, "b") };
    insert(vec![call(1, "a"), call(2, "b"), unpriced]).execute(&mut *conn).await.unwrap();
    let written = rows(&mut conn).await;
    assert_eq!(written.len(), 3);
    for migration in after {
        let mut tx = conn.begin().await.unwrap();
        sqlx::raw_sql(migration.sql.clone()).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }
    assert_eq!(rows(&mut conn).await, written);
    assert_eq!(contexts(&mut conn).await, 2);

    insert(vec![call(4, "a")]).execute(&mut *conn).await.unwrap();
    super::insert(&mut conn, &[call(5, "b")]).await.unwrap();
    let columns = "request_id, team, feature, status, batch_id, tags_json, usage_date";
    let by_both: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select count(({columns})) from ledger")))
        .fetch_one(&mut *conn)
        .await
        .unwrap();
    assert_eq!((by_both, contexts(&mut conn).await), (5, 2), "the same context has the same id, whoever writes it");
}
