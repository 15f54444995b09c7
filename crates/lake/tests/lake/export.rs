//! Exactly once, whatever is interrupted.

use lake::{
    LakeError, LakeStore,
    export::{export, freeze, publish, republish, write},
};
use sqlx::PgPool;
use store::export_segment;

use crate::ledger::{assert_equal, day, folder, noon, post, post_range, row};

const NOW: &str = "2026-03-10";

#[sqlx::test(migrations = "../../migrations")]
async fn rows_arrive_once(pool: PgPool) {
    let (folder, lake) = folder();
    post_range(&pool, day("2026-03-09"), 0, 700).await;
    post_range(&pool, day("2026-03-10"), 0, 1300).await;
    let done = export(&pool, &lake, noon(NOW)).await.unwrap();
    assert_eq!((done.segments, done.rows), (2, 2000));
    assert_equal(&pool, &lake, 2000).await;
    assert_eq!(export(&pool, &lake, noon(NOW)).await.unwrap().rows, 0, "nothing is exported twice");

    post_range(&pool, day("2026-03-10"), 1300, 1301).await;
    assert_eq!(export(&pool, &lake, noon(NOW)).await.unwrap().rows, 1);
    assert_equal(&pool, &lake, 2001).await;
    let manifest = lake.manifest().await.unwrap().unwrap();
    assert!(manifest.files.iter().all(|file| folder.path().join(&file.name).is_file()));
    assert!(manifest.files[0].name.starts_with("hot/usage_date=2026-03-09/seg-"));
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_batch_over_midnight_goes_into_both_days(pool: PgPool) {
    let (_folder, lake) = folder();
    post(&pool, &[row(1, day("2026-03-09")), row(2, day("2026-03-10")), row(3, day("2026-03-09"))]).await;
    assert_eq!(export(&pool, &lake, noon(NOW)).await.unwrap().segments, 2);
    assert_equal(&pool, &lake, 3).await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn segments_are_bounded_and_never_split_a_batch(pool: PgPool) {
    post_range(&pool, day(NOW), 0, 2600).await;
    let mut sizes = Vec::new();
    let mut tx = pool.begin().await.unwrap();
    while let Some(segment) = export_segment::freeze(&mut tx, day(NOW), 1200).await.unwrap() {
        sizes.push(segment.rows);
    }
    assert_eq!(sizes, [1000, 1000, 600]);
    tx.rollback().await.unwrap();

    // A batch that is larger than a segment may be goes alone, instead of never.
    let mut tx = pool.begin().await.unwrap();
    assert_eq!(export_segment::freeze(&mut tx, day(NOW), 10).await.unwrap().unwrap().rows, 500);
}

/// The process died after each of the steps in turn; the next run finishes, with the same file.
#[sqlx::test(migrations = "../../migrations")]
async fn a_crash_after_any_step_is_repeated(pool: PgPool) {
    let (folder, lake) = folder();
    post_range(&pool, day(NOW), 0, 10).await;

    let frozen = freeze(&pool, day(NOW)).await.unwrap().unwrap();
    assert_eq!(export(&pool, &lake, noon(NOW)).await.unwrap().rows, 10, "died after freezing");
    assert_equal(&pool, &lake, 10).await;

    post_range(&pool, day(NOW), 10, 30).await;
    let frozen_again = freeze(&pool, day(NOW)).await.unwrap().unwrap();
    assert_ne!(frozen.segment_id, frozen_again.segment_id);
    let file = write(&pool, &lake, &frozen_again).await.unwrap();
    assert_eq!(
        lake::verify(&pool, &lake).await.unwrap().differences,
        [],
        "an unlisted file of a frozen segment is expected"
    );
    let made = std::fs::metadata(folder.path().join(&file.name)).unwrap().modified().unwrap();
    assert_eq!(export(&pool, &lake, noon(NOW)).await.unwrap().rows, 20, "died after writing");
    assert_equal(&pool, &lake, 30).await;
    let left = std::fs::metadata(folder.path().join(&file.name)).unwrap().modified().unwrap();
    assert_eq!(left, made, "the file that was there was kept");

    post_range(&pool, day(NOW), 30, 31).await;
    let third = freeze(&pool, day(NOW)).await.unwrap().unwrap();
    let file = write(&pool, &lake, &third).await.unwrap();
    lake.update(noon(NOW), move |manifest| manifest.files.push(file.clone())).await.unwrap();
    assert_eq!(export(&pool, &lake, noon(NOW)).await.unwrap().rows, 1, "died after listing");
    assert_equal(&pool, &lake, 31).await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_step_that_is_repeated_changes_nothing(pool: PgPool) {
    let (_folder, lake) = folder();
    post_range(&pool, day(NOW), 0, 5).await;
    let segment = freeze(&pool, day(NOW)).await.unwrap().unwrap();
    let file = write(&pool, &lake, &segment).await.unwrap();
    assert_eq!(write(&pool, &lake, &segment).await.unwrap(), file);
    for _ in 0..2 {
        publish(&pool, &lake, &segment, file.clone(), noon(NOW)).await.unwrap();
    }
    assert_equal(&pool, &lake, 5).await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_file_with_other_rows_is_never_taken_for_ours(pool: PgPool) {
    let (folder, lake) = folder();
    post_range(&pool, day(NOW), 0, 5).await;
    let segment = freeze(&pool, day(NOW)).await.unwrap().unwrap();
    let file = write(&pool, &lake, &segment).await.unwrap();
    sqlx::query("update ledger_entry set contracted_cost = contracted_cost + 1").execute(&pool).await.unwrap();
    let error = export(&pool, &lake, noon(NOW)).await.unwrap_err();
    assert!(matches!(error, LakeError::Conflict { ref name } if *name == file.name), "{error}");
    std::fs::remove_file(folder.path().join(&file.name)).unwrap();
    export(&pool, &lake, noon(NOW)).await.unwrap();
    assert_equal(&pool, &lake, 5).await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn rows_that_vanished_stop_the_export(pool: PgPool) {
    let (_folder, lake) = folder();
    post_range(&pool, day(NOW), 0, 5).await;
    sqlx::query("delete from ledger_entry where custom_id = 'doc-3'").execute(&pool).await.unwrap();
    let error = export(&pool, &lake, noon(NOW)).await.unwrap_err();
    assert!(matches!(error, LakeError::Incomplete { frozen: 5, found: 4, .. }), "{error}");
    assert_eq!(lake.manifest().await.unwrap().unwrap().files, []);
}

#[sqlx::test(migrations = "../../migrations")]
async fn two_exporters_do_not_meet(pool: PgPool) {
    let (_folder, lake) = folder();
    post_range(&pool, day(NOW), 0, 5).await;
    let lock = export_segment::LakeLock::take(&pool).await.unwrap().unwrap();
    assert!(matches!(export(&pool, &lake, noon(NOW)).await, Err(LakeError::Busy)));
    lock.release().await.unwrap();
    let (a, b) = tokio::join!(export(&pool, &lake, noon(NOW)), export(&pool, &lake, noon(NOW)));
    assert!(a.is_ok() || b.is_ok());
    export(&pool, &lake, noon(NOW)).await.unwrap();
    assert_equal(&pool, &lake, 5).await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_lost_lake_is_noticed_and_can_be_written_anew(pool: PgPool) {
    let (folder, lake) = folder();
    post_range(&pool, day(NOW), 0, 5).await;
    export(&pool, &lake, noon(NOW)).await.unwrap();
    drop(folder);
    let new_folder = tempfile::tempdir().unwrap();
    let lake = LakeStore::open(new_folder.path().to_str().unwrap()).unwrap();
    post_range(&pool, day(NOW), 5, 7).await;
    assert!(matches!(export(&pool, &lake, noon(NOW)).await, Err(LakeError::ManifestLost { .. })));
    assert_eq!(republish(&pool).await.unwrap(), 1);
    assert_eq!(export(&pool, &lake, noon(NOW)).await.unwrap().rows, 7);
    assert_equal(&pool, &lake, 7).await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_a_killed_writer_left_is_swept_and_never_seen(pool: PgPool) {
    let (folder, lake) = folder();
    let scratch = folder.path().join("_tmp");
    std::fs::create_dir_all(&scratch).unwrap();
    std::fs::write(scratch.join(".tmpAbC"), b"half a file").unwrap();
    post_range(&pool, day(NOW), 0, 5).await;
    export(&pool, &lake, noon(NOW)).await.unwrap();
    assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0);
    assert_equal(&pool, &lake, 5).await;
}
