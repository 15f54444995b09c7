//! A disk that is full while Parquet is written.

use std::{env, path::PathBuf};

use lake::{LakeError, LakeStore, export};
use sqlx::{PgPool, postgres::PgConnectOptions};
use tokio::process::Command;

use crate::ledger::{assert_equal, day, noon, post_range};

const SMALL: &str = "TOLLWAY_TEST_SMALL_DISK";
const DATABASE: &str = "TOLLWAY_TEST_SMALL_DISK_DATABASE";

/// Runs [`inside`] in a mount namespace of its own with a disk of one megabyte, on this test's database.
#[sqlx::test(migrations = "../../migrations")]
async fn a_full_disk_leaves_nothing_partial(pool: PgPool) {
    let small = tempfile::tempdir().unwrap();
    let namespace = ["--user", "--map-root-user", "--mount"];
    if !Command::new("unshare").args(namespace).arg("true").status().await.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this machine lets no ordinary user make a mount namespace");
        return;
    }
    let script = r#"mount -t tmpfs -o size=1m none "$0" && exec "$@""#;
    let status = Command::new("unshare")
        .args(namespace)
        .args(["sh", "-c", script])
        .arg(small.path())
        .arg(env::current_exe().unwrap())
        .args(["--exact", "disk::inside", "--ignored", "--nocapture"])
        .env(SMALL, small.path())
        .env(DATABASE, pool.connect_options().get_database().unwrap())
        .status()
        .await
        .unwrap();
    assert!(status.success());
}

#[tokio::test]
#[ignore = "run by a_full_disk_leaves_nothing_partial, which prepares disk and database"]
async fn inside() {
    // Nothing is prepared when somebody runs all ignored tests.
    let (Some(small), Ok(database)) = (env::var_os(SMALL).map(PathBuf::from), env::var(DATABASE)) else { return };
    let server: PgConnectOptions = env::var("DATABASE_URL").unwrap().parse().unwrap();
    let pool = PgPool::connect_with(server.database(&database)).await.unwrap();
    let lake = LakeStore::open(small.to_str().unwrap()).unwrap();
    let today = day("2026-03-10");
    post_range(&pool, today, 0, 100).await;
    export(&pool, &lake, noon("2026-03-10")).await.unwrap();

    post_range(&pool, today, 100, 30_000).await;
    let error = export(&pool, &lake, noon("2026-03-10")).await.unwrap_err();
    assert!(matches!(error, LakeError::NoSpace { .. }), "{error}");
    let visible = std::fs::read_dir(small.join("hot/usage_date=2026-03-10")).unwrap().count();
    assert_eq!(visible, 1, "only the file from before");
    assert_eq!(std::fs::read_dir(small.join("_tmp")).unwrap().count(), 0, "and the space is free again");
    let found = lake::verify(&pool, &lake).await.unwrap();
    assert_eq!((found.differences, found.lake.rows, found.waiting), (vec![], 100, 29_900));

    let more = Command::new("mount").args(["-o", "remount,size=64m"]).arg(&small).status().await.unwrap();
    assert!(more.success());
    assert_eq!(export(&pool, &lake, noon("2026-03-10")).await.unwrap().rows, 29_900);
    assert_equal(&pool, &lake, 30_000).await;
}
