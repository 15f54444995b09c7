//! What a comparison must catch.

use domain::{Money, money::Total};
use lake::{Difference, Verification, export, verify};
use sqlx::PgPool;

use crate::ledger::{day, folder, noon, post_range, row};

const NOW: &str = "2026-03-10";

async fn exported(pool: &PgPool) -> (tempfile::TempDir, lake::LakeStore) {
    let (folder, lake) = folder();
    post_range(pool, day(NOW), 0, 3000).await;
    export(pool, &lake, noon(NOW)).await.unwrap();
    (folder, lake)
}

/// Everything that was found, except the day's sums.
fn details(found: &Verification) -> Vec<&Difference> {
    found.differences.iter().filter(|difference| !matches!(difference, Difference::Day { .. })).collect()
}

#[sqlx::test(migrations = "../../migrations")]
async fn equal_sides_have_the_sum_of_the_rows(pool: PgPool) {
    let (_folder, lake) = exported(&pool).await;
    post_range(&pool, day(NOW), 3000, 3007).await;
    let found = verify(&pool, &lake).await.unwrap();
    assert!(found.holds());
    let sum: Total = (0..3000).map(|n| Money(row(n, day(NOW)).contracted_cost.unwrap_or(0))).sum();
    assert_eq!((found.ledger.cost_usd, found.lake.cost_usd, found.lake.rows), (sum, sum, 3000));
    assert_eq!((found.waiting, found.days, found.files), (7, 1, 1));
}

#[sqlx::test(migrations = "../../migrations")]
async fn an_empty_ledger_and_an_empty_lake_are_equal(pool: PgPool) {
    let (_folder, lake) = folder();
    assert_eq!(verify(&pool, &lake).await.unwrap(), Verification::default());
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_changed_pico_dollar_is_named(pool: PgPool) {
    let (_folder, lake) = exported(&pool).await;
    let changed = "update ledger_entry set contracted_cost = contracted_cost + 1 where custom_id = 'doc-1234'";
    sqlx::query(changed).execute(&pool).await.unwrap();
    let found = verify(&pool, &lake).await.unwrap();
    let [Difference::Columns { attempt_id, columns, .. }] = details(&found)[..] else { panic!("{found:?}") };
    assert_eq!(*attempt_id, row(1234, day(NOW)).attempt_id);
    assert_eq!(columns.len(), 1);
    assert_eq!(columns[0].column, "contracted_cost");
    assert_eq!(found.ledger.cost_usd.0, found.lake.cost_usd.0 + 1);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_change_that_keeps_every_sum_is_caught(pool: PgPool) {
    let (_folder, lake) = exported(&pool).await;
    let swapped = "update ledger_entry set contracted_cost = case custom_id when 'doc-1' then $1 else $2 end
                   where custom_id in ('doc-1', 'doc-2')";
    let cost = |n| row(n, day(NOW)).contracted_cost.unwrap();
    sqlx::query(swapped).bind(cost(2)).bind(cost(1)).execute(&pool).await.unwrap();
    let found = verify(&pool, &lake).await.unwrap();
    assert_eq!(found.ledger, found.lake);
    assert_eq!(details(&found).len(), 2);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_row_missing_in_the_ledger_is_only_in_the_lake(pool: PgPool) {
    let (_folder, lake) = exported(&pool).await;
    sqlx::query("delete from ledger_entry where custom_id = 'doc-77'").execute(&pool).await.unwrap();
    let found = verify(&pool, &lake).await.unwrap();
    let [Difference::OnlyInLake { attempt_id, .. }] = details(&found)[..] else { panic!("{found:?}") };
    assert_eq!(*attempt_id, row(77, day(NOW)).attempt_id);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_row_added_to_the_ledger_behind_our_back_is_missing_in_the_lake(pool: PgPool) {
    let (_folder, lake) = exported(&pool).await;
    let added =
        "insert into ledger select (jsonb_populate_record(l, jsonb_build_object('attempt_id', gen_random_uuid()))).*
                 from ledger l where custom_id = 'doc-5'";
    sqlx::query(added).execute(&pool).await.unwrap();
    let found = verify(&pool, &lake).await.unwrap();
    assert!(matches!(details(&found)[..], [Difference::OnlyInLedger { .. }]), "{found:?}");
}

#[sqlx::test(migrations = "../../migrations")]
async fn rows_in_no_batch_are_found(pool: PgPool) {
    let (_folder, lake) = exported(&pool).await;
    let added = "insert into ledger select (jsonb_populate_record(l,
                 jsonb_build_object('attempt_id', gen_random_uuid(), 'batch_id', 999999))).*
                 from ledger l where custom_id = 'doc-5'";
    sqlx::query(added).execute(&pool).await.unwrap();
    let found = verify(&pool, &lake).await.unwrap();
    assert_eq!(found.differences, [Difference::NeverExported { usage_date: day(NOW), rows: 1 }]);
}

#[sqlx::test(migrations = "../../migrations")]
async fn files_missing_unlisted_or_swapped_are_named(pool: PgPool) {
    let (folder, lake) = exported(&pool).await;
    post_range(&pool, day(NOW), 3000, 3010).await;
    export(&pool, &lake, noon(NOW)).await.unwrap();
    let files = lake.manifest().await.unwrap().unwrap().files;
    let path = |n: usize| folder.path().join(&files[n].name);
    let stray = path(0).with_file_name("seg-999.parquet");
    std::fs::copy(path(1), &stray).unwrap();
    let found = verify(&pool, &lake).await.unwrap();
    let name = "hot/usage_date=2026-03-10/seg-999.parquet".to_owned();
    assert_eq!(found.differences, [Difference::UnlistedFile { name }]);
    std::fs::remove_file(stray).unwrap();

    std::fs::write(path(1), b"not parquet").unwrap();
    let found = verify(&pool, &lake).await.unwrap();
    let wrong = |found: &Verification, name: &str| {
        found.differences.iter().any(|d| matches!(d, Difference::WrongFile { name: wrong, .. } if wrong == name))
    };
    assert!(wrong(&found, &files[1].name), "{found:?}");

    std::fs::remove_file(path(1)).unwrap();
    let found = verify(&pool, &lake).await.unwrap();
    assert!(found.differences.contains(&Difference::MissingFile { name: files[1].name.clone() }), "{found:?}");
    let missing = found.differences.iter().filter(|d| matches!(d, Difference::OnlyInLedger { .. })).count();
    assert_eq!(missing, 10);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_segment_that_no_file_has_is_named(pool: PgPool) {
    let (_folder, lake) = exported(&pool).await;
    lake.update(noon(NOW), |manifest| manifest.files.clear()).await.unwrap();
    let found = verify(&pool, &lake).await.unwrap();
    assert!(found.differences.iter().any(|d| matches!(d, Difference::WrongSegment { .. })), "{found:?}");
    assert!(found.differences.iter().any(|d| matches!(d, Difference::UnlistedFile { .. })), "{found:?}");
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_file_counted_twice_is_caught(pool: PgPool) {
    let (_folder, lake) = exported(&pool).await;
    lake.update(noon(NOW), |manifest| manifest.files.push(manifest.files[0].clone())).await.unwrap();
    let found = verify(&pool, &lake).await.unwrap();
    assert!(found.differences.iter().any(|d| matches!(d, Difference::Repeated { times: 2, .. })), "{found:?}");
    assert_eq!(found.lake.rows, 2 * found.ledger.rows);
}
