//! Sealed days.

use chrono::TimeDelta;
use domain::LedgerRow;
use lake::{LakeStore, compact, export, file::Rows};
use sqlx::PgPool;

use crate::ledger::{assert_equal, day, folder, noon, post_range};

const OLD: &str = "2026-03-08";
const NOW: &str = "2026-03-10";

async fn rows_of(lake: &LakeStore, name: &str) -> Vec<LedgerRow> {
    let file = lake.read(name).await.unwrap().unwrap();
    Rows::open(name, file, day(OLD)).unwrap().collect::<Result<_, _>>().unwrap()
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_day_is_sealed_two_days_later_in_the_order_of_bills(pool: PgPool) {
    let (folder, lake) = folder();
    for (day_, from, to) in [(OLD, 0, 900), (OLD, 900, 1700), ("2026-03-09", 0, 40), (NOW, 0, 60)] {
        post_range(&pool, day(day_), from, to).await;
        export(&pool, &lake, noon(NOW)).await.unwrap();
    }
    let done = compact(&pool, &lake, noon(NOW)).await.unwrap();
    assert_eq!((done.days, done.files, done.rows, done.removed), (1, 1, 1700, 0));
    assert_eq!(done.sealed_through, Some(day(OLD)));
    assert_equal(&pool, &lake, 1800).await;

    let manifest = lake.manifest().await.unwrap().unwrap();
    let sealed: Vec<_> = manifest.between(day(OLD), day(OLD)).collect();
    assert_eq!(sealed.len(), 1);
    assert!(sealed[0].name.starts_with("ledger/usage_date=2026-03-08/part-"), "{}", sealed[0].name);
    let rows = rows_of(&lake, &sealed[0].name).await;
    let bill = |row: &LedgerRow| (row.team.clone(), row.provider.clone(), row.model_billed.clone(), row.completed_at);
    assert!(rows.is_sorted_by_key(bill));

    // Readers that hold the old manifest find its files for an hour.
    assert_eq!(manifest.retired.len(), 2);
    let old = |name: &str| folder.path().join(name).exists();
    assert!(manifest.retired.iter().all(|file| old(&file.name)));
    let early = compact(&pool, &lake, noon(NOW) + TimeDelta::minutes(59)).await.unwrap();
    assert_eq!((early.days, early.removed), (0, 0));
    let late = compact(&pool, &lake, noon(NOW) + TimeDelta::minutes(60)).await.unwrap();
    assert_eq!(late.removed, 2);
    assert!(!manifest.retired.iter().any(|file| old(&file.name)));
    assert_equal(&pool, &lake, 1800).await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn late_rows_of_a_sealed_day_are_added_to_it(pool: PgPool) {
    let (_folder, lake) = folder();
    post_range(&pool, day(OLD), 0, 10).await;
    export(&pool, &lake, noon(NOW)).await.unwrap();
    compact(&pool, &lake, noon(NOW)).await.unwrap();
    post_range(&pool, day(OLD), 10, 13).await;
    export(&pool, &lake, noon(NOW)).await.unwrap();
    let manifest = lake.manifest().await.unwrap().unwrap();
    assert!(manifest.files.iter().all(|file| file.name.starts_with("ledger/usage_date=2026-03-08/")));
    assert_equal(&pool, &lake, 13).await;
    assert_eq!(compact(&pool, &lake, noon(NOW)).await.unwrap().days, 0, "it is where it belongs");
    assert_equal(&pool, &lake, 13).await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_day_with_rows_that_wait_is_not_sealed_and_neither_are_later_ones(pool: PgPool) {
    let (_folder, lake) = folder();
    for text in ["2026-03-06", "2026-03-07", "2026-03-08"] {
        post_range(&pool, day(text), 0, 4).await;
    }
    export(&pool, &lake, noon(NOW)).await.unwrap();
    post_range(&pool, day("2026-03-07"), 4, 5).await;
    let done = compact(&pool, &lake, noon(NOW)).await.unwrap();
    assert_eq!((done.days, done.sealed_through), (1, Some(day("2026-03-06"))));
    export(&pool, &lake, noon(NOW)).await.unwrap();
    let done = compact(&pool, &lake, noon(NOW)).await.unwrap();
    assert_eq!((done.days, done.sealed_through), (2, Some(day("2026-03-08"))));
    assert_equal(&pool, &lake, 13).await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_compaction_that_died_leaves_no_row_twice(pool: PgPool) {
    let (folder, lake) = folder();
    post_range(&pool, day(OLD), 0, 10).await;
    export(&pool, &lake, noon(NOW)).await.unwrap();
    let before = lake.manifest().await.unwrap().unwrap();
    compact(&pool, &lake, noon(NOW)).await.unwrap();
    // As if it had died before the manifest was changed; then more rows came, so that the next one's file has another name.
    lake.update(noon(NOW), move |manifest| *manifest = before.clone()).await.unwrap();
    post_range(&pool, day(OLD), 10, 12).await;
    export(&pool, &lake, noon(NOW)).await.unwrap();
    compact(&pool, &lake, noon(NOW)).await.unwrap();
    let files = std::fs::read_dir(folder.path().join("ledger/usage_date=2026-03-08")).unwrap().count();
    assert_eq!(files, 1, "the orphan is gone");
    assert_equal(&pool, &lake, 12).await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn rows_changed_in_a_file_are_not_compacted(pool: PgPool) {
    let (folder, lake) = folder();
    for to in [10, 20] {
        post_range(&pool, day(OLD), to - 10, to).await;
        export(&pool, &lake, noon(NOW)).await.unwrap();
    }
    let files = lake.manifest().await.unwrap().unwrap().files;
    let path = |n: usize| folder.path().join(&files[n].name);
    std::fs::copy(path(0), path(1)).unwrap();
    let error = compact(&pool, &lake, noon(NOW)).await.unwrap_err();
    assert!(error.to_string().contains("its rows are not those the manifest lists"), "{error}");
    assert_eq!(lake.manifest().await.unwrap().unwrap().files, files);
}
