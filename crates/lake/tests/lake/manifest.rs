//! The manifest under concurrent changes.

use std::collections::BTreeSet;

use chrono::DateTime;
use domain::manifest::{LakeFile, Manifest, SegmentSet};
use lake::{LakeError, LakeStore};

use crate::ledger::{day, folder};

fn file(n: i64) -> LakeFile {
    LakeFile {
        name: format!("hot/usage_date=2026-03-10/seg-{n}.parquet"),
        usage_date: day("2026-03-10"),
        rows: 1,
        bytes: 1,
        content_hash: "0".repeat(64),
        segments: SegmentSet::from_iter([n]),
    }
}

/// `writers` at once add a file each; all of them must be there afterwards.
pub async fn assert_no_change_is_lost(lake: &LakeStore, writers: i64) {
    let tasks: Vec<_> = (0..writers)
        .map(|n| {
            let lake = lake.clone();
            tokio::spawn(async move {
                loop {
                    let add = move |manifest: &mut Manifest| manifest.files.push(file(n));
                    match lake.update(DateTime::UNIX_EPOCH, add).await {
                        // Told to try again, as an exporter does at its next run.
                        Err(LakeError::Contended(_)) => {}
                        other => break other.map(|_| ()),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let files = lake.manifest().await.unwrap().unwrap().files;
    let names: BTreeSet<String> = files.iter().map(|file| file.name.clone()).collect();
    assert_eq!((names.len(), files.len()), (writers as usize, writers as usize));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_change_is_lost_in_a_folder() {
    let (_folder, lake) = folder();
    assert_no_change_is_lost(&lake, 32).await;
}

#[tokio::test]
async fn a_lake_without_a_manifest_is_empty() {
    let (folder, lake) = folder();
    assert_eq!(lake.manifest().await.unwrap(), None);
    std::fs::write(folder.path().join("_manifest.json"), "{").unwrap();
    assert!(matches!(lake.manifest().await, Err(LakeError::Unreadable { .. })));
}
