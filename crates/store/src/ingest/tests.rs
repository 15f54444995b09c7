use super::{abandon::SWEEP_ITEMS, *};

const UPLOAD: Upload = Upload { job_id: 0, worker_id: 7 };

/// A team, a worker and an upload of `items` items in one flow, of an id in today's partition.
async fn uploading(conn: &mut PgConnection, items: i32) -> (Upload, i64) {
    sqlx::query("insert into team (name) values ('t') on conflict do nothing").execute(&mut *conn).await.unwrap();
    let job_id = domain::ids::time_id(Utc::now());
    let upload = Upload { job_id, ..UPLOAD };
    let job = NewJob {
        upload,
        team_id: 1,
        key_id: "key",
        lane: "bulk",
        name: Some("reindex"),
        tags: serde_json::json!({"feature": "search"}),
        priority: 3,
        max_attempts: 5,
        retry_of: None,
        after: None,
        webhook_url: None,
        start_at: None,
        deadline_at: None,
    };
    begin(conn, &job).await.unwrap();
    assert!(idempotency::reserve(conn, 1, "key", job_id).await.unwrap());
    let mut rows = Items::new(0);
    for pos in 0..items {
        rows.push(item(job_id, pos));
    }
    assert!(append(conn, upload, &[job_id], &mut rows).await.unwrap());
    assert!(rows.is_empty());
    (upload, job_id)
}

fn item(flow_id: i64, pos: i32) -> NewItem<'static> {
    let max_out = (pos % 2 == 0).then_some(64);
    NewItem { flow_id, pos, line: pos + 1, est_in: 10, max_out, custom_id: "id", body: r#"{"model":"m"}"# }
}

fn flow(flow_id: i64, items: i32) -> NewFlow {
    NewFlow { flow_id, route: "m".into(), endpoint: 2, items, max_in: 10, max_out: None }
}

async fn count(conn: &mut PgConnection, table: &str) -> i64 {
    let statement = sqlx::AssertSqlSafe(format!("select count(*) from {table}"));
    sqlx::query_scalar(statement).fetch_one(conn).await.unwrap()
}

#[sqlx::test(migrations = "../../migrations")]
async fn nothing_is_runnable_before_the_end(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let (upload, flow_id) = uploading(&mut conn, 3).await;
    assert_eq!((count(&mut conn, "flow").await, count(&mut conn, "share").await), (0, 0));
    assert_eq!(accepted(&mut conn, upload.job_id).await.unwrap(), None);

    assert!(finish(&mut conn, upload, &[flow(flow_id, 3)], b"print", Begin::AtOnce).await.unwrap());
    assert_eq!(accepted(&mut conn, upload.job_id).await.unwrap(), Some(3));
    let (state, tail, priority, woken): (String, i32, i16, bool) = sqlx::query_as(
        "select j.state, f.tail_pos, f.priority, s.blocked_until = '-infinity'
         from job j join flow f using (job_id) join share s on (s.lane, s.team_id) = (f.lane, f.team_id)",
    )
    .fetch_one(&mut *conn)
    .await
    .unwrap();
    assert_eq!((state.as_str(), tail, priority, woken), ("queued", 3, 3, true));
    let body: (i32, Option<i32>, String) =
        sqlx::query_as("select line, max_out, body from item where pos = 2").fetch_one(&mut *conn).await.unwrap();
    assert_eq!(body, (3, Some(64), r#"{"model":"m"}"#.into()));
    let known = idempotency::find(&mut conn, 1, "key").await.unwrap();
    assert_eq!(known, Some(idempotency::Known::Done { job_id: upload.job_id, fingerprint: b"print".to_vec() }));
}

/// A database that dies takes back commits that it had not written to the disk, as a rollback would.
#[sqlx::test(migrations = "../../migrations")]
async fn a_job_never_runs_without_items_that_the_database_lost(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let (upload, flow_id) = uploading(&mut conn, 3).await;
    let mut lost = Items::new(0);
    lost.push(item(flow_id, 3));
    let mut tx = begin_append(&pool).await.unwrap();
    assert!(append(&mut tx, upload, &[flow_id], &mut lost).await.unwrap());
    tx.rollback().await.unwrap();
    let mut rest = Items::new(0);
    rest.push(item(flow_id, 4));
    assert!(append(&mut conn, upload, &[flow_id], &mut rest).await.unwrap());

    assert!(!finish(&mut conn, upload, &[flow(flow_id, 5)], b"print", Begin::AtOnce).await.unwrap());
    assert_eq!(count(&mut conn, "flow").await, 0);
    assert!(abandon(&mut conn, upload).await.unwrap());
}

#[sqlx::test(migrations = "../../migrations")]
async fn an_abandoned_upload_leaves_nothing_and_frees_its_key(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let (upload, flow_id) = uploading(&mut conn, SWEEP_ITEMS + 5).await;
    assert!(abandon(&mut conn, upload).await.unwrap());
    assert!(!abandon(&mut conn, upload).await.unwrap());
    assert_eq!(idempotency::find(&mut conn, 1, "key").await.unwrap(), None);

    // Its owner, should it still be there, is fenced off.
    let mut late = Items::new(0);
    late.push(item(flow_id, SWEEP_ITEMS + 5));
    assert!(!append(&mut conn, upload, &[flow_id], &mut late).await.unwrap());
    assert!(!finish(&mut conn, upload, &[flow(flow_id, 1)], b"", Begin::AtOnce).await.unwrap());

    assert_eq!(sweep(&mut conn).await.unwrap(), 1);
    assert_eq!((count(&mut conn, "item").await, count(&mut conn, "job").await), (0, 0));
    assert_eq!(sweep(&mut conn).await.unwrap(), 0);
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_was_finished_cannot_be_abandoned(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let (upload, flow_id) = uploading(&mut conn, 1).await;
    assert!(finish(&mut conn, upload, &[flow(flow_id, 1)], b"print", Begin::AtOnce).await.unwrap());
    assert!(!abandon(&mut conn, upload).await.unwrap());
    assert_eq!(abandon_uploads_of(&mut conn, upload.worker_id).await.unwrap(), 0);
    assert_eq!(sweep(&mut conn).await.unwrap(), 0);
    assert_eq!(count(&mut conn, "item").await, 1);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_dead_workers_uploads_go_and_no_others(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let (upload, _) = uploading(&mut conn, 2).await;
    assert_eq!(abandon_uploads_of(&mut conn, upload.worker_id + 1).await.unwrap(), 0);
    assert_eq!(abandon_uploads_of(&mut conn, upload.worker_id).await.unwrap(), 1);
    assert_eq!(idempotency::find(&mut conn, 1, "key").await.unwrap(), None);
    assert_eq!(sweep(&mut conn).await.unwrap(), 1);
    assert_eq!(count(&mut conn, "item").await, 0);
}

#[sqlx::test(migrations = "../../migrations")]
async fn abandoning_waits_for_a_commit_under_way(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let (upload, flow_id) = uploading(&mut conn, 1).await;
    let mut ending = pool.begin().await.unwrap();
    assert!(finish(&mut ending, upload, &[flow(flow_id, 1)], b"print", Begin::AtOnce).await.unwrap());
    let late = tokio::spawn(async move { abandon(&mut conn, upload).await });
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(!late.is_finished());
    ending.commit().await.unwrap();
    assert!(!late.await.unwrap().unwrap(), "the commit came first");
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_chunk_is_all_or_nothing(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let (upload, flow_id) = uploading(&mut conn, 1).await;
    let mut tx = begin_append(&pool).await.unwrap();
    let mut rows = Items::new(0);
    rows.push(item(flow_id, 1));
    rows.push(item(flow_id, 0));
    assert!(append(&mut tx, upload, &[flow_id], &mut rows).await.is_err(), "position 0 is taken");
    drop(tx);
    assert_eq!(count(&mut conn, "item").await, 1);
}
