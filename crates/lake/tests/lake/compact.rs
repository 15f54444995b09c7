//! Sealed days.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use domain::{LedgerRow, manifest::RetiredFile};
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
    assert_eq!((done.days, done.files, done.rows, done.removed), (1, 1, 1700, 2));
    assert_eq!(done.sealed_through, Some(day(OLD)));
    assert_equal(&pool, &lake, 1800).await;

    let manifest = lake.manifest().await.unwrap().unwrap();
    let sealed: Vec<_> = manifest.between(day(OLD), day(OLD)).collect();
    assert_eq!(sealed.len(), 1);
    assert!(sealed[0].name.starts_with("ledger/usage_date=2026-03-08/part-"), "{}", sealed[0].name);
    let rows = rows_of(&lake, &sealed[0].name).await;
    let bill = |row: &LedgerRow| (row.team.clone(), row.provider.clone(), row.model_billed.clone(), row.completed_at);
    assert!(rows.is_sorted_by_key(bill));

    assert_eq!(manifest.retired, []);
    assert!(!folder.path().join(format!("hot/usage_date={OLD}")).exists());
    let again = compact(&pool, &lake, noon(NOW)).await.unwrap();
    assert_eq!((again.days, again.removed), (0, 0));
    assert_equal(&pool, &lake, 1800).await;
}

/// The custom_ids of all Parquet files below `folder`, listed in the manifest or not, as a reader that globs finds them.
fn globbed(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                let day = path.to_str().unwrap().split("usage_date=").nth(1).unwrap()[..10].to_owned();
                // A file that went away after it was seen is an error to its reader, and never a wrong sum.
                let Ok(file) = fs::File::open(&path) else { continue };
                let rows = Rows::open(&path.display().to_string(), file, self::day(&day)).unwrap();
                found.extend(rows.map(|row| format!("{day} {}", row.unwrap().custom_id.unwrap())));
            }
        }
    }
    found.sort_unstable();
    found
}

fn doc_ids(day: &str, rows: u64) -> Vec<String> {
    let mut ids: Vec<String> = (0..rows).map(|n| format!("{day} doc-{n}")).collect();
    ids.sort_unstable();
    ids
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_reader_that_globs_counts_each_row_once_after_a_compaction(pool: PgPool) {
    let (folder, lake) = folder();
    for (from, to) in [(0, 30), (30, 70)] {
        post_range(&pool, day(OLD), from, to).await;
        export(&pool, &lake, noon(NOW)).await.unwrap();
    }
    assert_eq!(globbed(folder.path()), doc_ids(OLD, 70));
    compact(&pool, &lake, noon(NOW)).await.unwrap();
    assert_eq!(globbed(folder.path()), doc_ids(OLD, 70));
    post_range(&pool, day(OLD), 70, 75).await;
    export(&pool, &lake, noon(NOW)).await.unwrap();
    assert_eq!(globbed(folder.path()), doc_ids(OLD, 75), "late rows, too");
    assert_eq!(globbed(&folder.path().join("ledger")), doc_ids(OLD, 75));
}

/// `ledger/` alone has none of a day or all of it, while days are sealed.
#[sqlx::test(migrations = "../../migrations")]
async fn a_reader_that_globs_sealed_days_never_sees_part_of_one(pool: PgPool) {
    let (folder, lake) = folder();
    let days = ["2026-03-04", "2026-03-05", "2026-03-06", "2026-03-07", OLD];
    for day_ in days {
        post_range(&pool, day(day_), 0, 200).await;
    }
    export(&pool, &lake, noon(NOW)).await.unwrap();
    let sealed = folder.path().join("ledger");
    let done = Arc::new(AtomicBool::new(false));
    let reader = {
        let (sealed, done) = (sealed.clone(), Arc::clone(&done));
        tokio::task::spawn_blocking(move || {
            while !done.load(Ordering::SeqCst) {
                let seen = globbed(&sealed);
                for day in days {
                    let rows = seen.iter().filter(|id| id.starts_with(day)).count();
                    assert!(rows == 0 || rows == 200, "{rows} rows of {day}");
                }
            }
        })
    };
    let compacted = compact(&pool, &lake, noon(NOW)).await;
    done.store(true, Ordering::SeqCst);
    reader.await.unwrap();
    assert_eq!(compacted.unwrap().days, 5);
    assert_eq!(globbed(&sealed).len(), 1000);
    assert_eq!(globbed(folder.path()).len(), 1000);
}

/// It died when the manifest listed the new file, and the old ones were still there: the next export removes them.
#[sqlx::test(migrations = "../../migrations")]
async fn files_that_a_dead_compaction_replaced_are_gone_after_the_next_export(pool: PgPool) {
    let (folder, lake) = folder();
    post_range(&pool, day(OLD), 0, 10).await;
    export(&pool, &lake, noon(NOW)).await.unwrap();
    let hot = lake.manifest().await.unwrap().unwrap().files[0].name.clone();
    let copy = fs::read(folder.path().join(&hot)).unwrap();
    compact(&pool, &lake, noon(NOW)).await.unwrap();
    fs::create_dir_all(folder.path().join(&hot).parent().unwrap()).unwrap();
    fs::write(folder.path().join(&hot), copy).unwrap();
    let retired = RetiredFile { name: hot, retired_at: noon(NOW) };
    lake.update(noon(NOW), move |manifest| manifest.retired = vec![retired.clone()]).await.unwrap();
    assert_eq!(globbed(folder.path()).len(), 20, "as long as both are there");
    export(&pool, &lake, noon(NOW)).await.unwrap();
    assert_eq!(globbed(folder.path()), doc_ids(OLD, 10));
    assert_eq!(lake.manifest().await.unwrap().unwrap().retired, []);
}

/// It died before the manifest was changed, and nothing came since: the file it left is whole, and stays.
#[sqlx::test(migrations = "../../migrations")]
async fn a_sealed_day_that_is_there_already_is_not_taken_away_and_put_again(pool: PgPool) {
    let (folder, lake) = folder();
    post_range(&pool, day(OLD), 0, 10).await;
    export(&pool, &lake, noon(NOW)).await.unwrap();
    let before = lake.manifest().await.unwrap().unwrap();
    let hot = folder.path().join(&before.files[0].name);
    let copy = fs::read(&hot).unwrap();
    compact(&pool, &lake, noon(NOW)).await.unwrap();
    let sealed = folder.path().join(&lake.manifest().await.unwrap().unwrap().files[0].name);
    let inode = fs::metadata(&sealed).unwrap().ino();
    fs::create_dir_all(hot.parent().unwrap()).unwrap();
    fs::write(&hot, copy).unwrap();
    lake.update(noon(NOW), move |manifest| *manifest = before.clone()).await.unwrap();
    compact(&pool, &lake, noon(NOW)).await.unwrap();
    assert_eq!(fs::metadata(&sealed).unwrap().ino(), inode, "the same file");
    assert_eq!(globbed(folder.path()), doc_ids(OLD, 10));
    assert_equal(&pool, &lake, 10).await;
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
    let hot = folder.path().join(&before.files[0].name);
    let copy = fs::read(&hot).unwrap();
    compact(&pool, &lake, noon(NOW)).await.unwrap();
    fs::create_dir_all(hot.parent().unwrap()).unwrap();
    fs::write(&hot, copy).unwrap();
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
