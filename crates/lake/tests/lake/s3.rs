//! The same promises on a real S3 server.

use std::sync::atomic::Ordering;

use lake::{LakeError, LakeStore, compact, export};
use sqlx::PgPool;

use crate::{
    ledger::{assert_equal, day, noon, post_range},
    manifest::assert_no_change_is_lost,
    s3_server::S3Server,
};

const OLD: &str = "2026-03-08";
const NOW: &str = "2026-03-10";

fn lake_on(server: &S3Server) -> LakeStore {
    LakeStore::open_with("s3://bucket/a/lake/", server.settings()).unwrap()
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_bucket_is_a_lake(pool: PgPool) {
    let server = S3Server::start().await;
    let lake = lake_on(&server);
    assert_eq!(lake.url(), "s3://bucket/a/lake");
    for (from, to) in [(0, 600), (600, 1000)] {
        post_range(&pool, day(OLD), from, to).await;
        post_range(&pool, day(NOW), from, to).await;
        export(&pool, &lake, noon(NOW)).await.unwrap();
    }
    assert_equal(&pool, &lake, 2000).await;
    assert!(server.folder().join("a/lake/_manifest.json").is_file());
    let done = compact(&pool, &lake, noon(NOW)).await.unwrap();
    assert_eq!((done.days, done.files, done.rows, done.removed), (1, 1, 1000, 2));
    assert!(!server.folder().join(format!("a/lake/hot/usage_date={OLD}/seg-1.parquet")).exists());
    assert_equal(&pool, &lake, 2000).await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn an_answer_that_was_lost_makes_no_row_twice(pool: PgPool) {
    let server = S3Server::start().await;
    let lake = lake_on(&server);
    post_range(&pool, day(NOW), 0, 50).await;
    server.lost_answers.store(2, Ordering::SeqCst);
    let done = export(&pool, &lake, noon(NOW)).await.unwrap();
    assert_eq!(server.lost_answers.load(Ordering::SeqCst), 0, "the answers were lost indeed");
    assert_eq!((done.segments, done.rows), (1, 50));
    assert_equal(&pool, &lake, 50).await;
}

/// Larger than what goes up in one piece.
#[sqlx::test(migrations = "../../migrations")]
async fn a_large_file_goes_up_in_parts(pool: PgPool) {
    let server = S3Server::start().await;
    let lake = lake_on(&server);
    // Texts that do not compress make few rows large.
    post_range(&pool, day(NOW), 0, 4000).await;
    let wide =
        "update ledger_entry set tags_json = (select string_agg(gen_random_uuid()::text, '') from generate_series(1, 250)
                where ledger_entry.attempt_id is not null)";
    sqlx::query(wide).execute(&pool).await.unwrap();
    export(&pool, &lake, noon(NOW)).await.unwrap();
    let bytes = lake.manifest().await.unwrap().unwrap().files[0].bytes;
    assert!(bytes > 16 << 20, "{bytes}");
    assert_equal(&pool, &lake, 4000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_change_of_the_manifest_is_lost() {
    let server = S3Server::start().await;
    assert_no_change_is_lost(&lake_on(&server), 8).await;
}

#[tokio::test]
async fn a_store_that_is_not_there_is_an_error() {
    let settings = [
        ("aws_endpoint_url", "http://127.0.0.1:9"),
        ("aws_access_key_id", "key"),
        ("aws_secret_access_key", "secret"),
        ("aws_region", "us-east-1"),
    ];
    let lake = LakeStore::open_with("s3://bucket/lake", settings).unwrap();
    let found = tokio::time::timeout(std::time::Duration::from_secs(60), lake.manifest()).await.unwrap();
    assert!(matches!(found, Err(LakeError::Storage(_))), "{found:?}");
}
