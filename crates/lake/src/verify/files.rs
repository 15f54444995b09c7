//! Whether manifest, files and segments agree.

use std::{collections::HashSet, fs::File};

use chrono::NaiveDate;
use domain::manifest::{LakeFile, Manifest};
use store::export_segment::{Published, Segment};
use tokio::task::spawn_blocking;

use super::{Buckets, Difference};
use crate::{
    LakeError, LakeStore, Result,
    digest::Digest,
    file::Rows,
    storage::{HOT, LEDGER},
};

/// A published segment must be in a live file; in one of its own with the same rows.
pub fn compare_segment(manifest: &Manifest, day: NaiveDate, segment: &Published, found: &mut Vec<Difference>) {
    let mut files = manifest.between(day, day).filter(|file| file.segments.contains(segment.segment_id));
    let reason = match files.next() {
        None => "was published, but no file of the manifest has it",
        Some(file) if file.segments.iter().count() > 1 => return,
        Some(_) if files.next().is_some() => "is in the manifest twice",
        Some(file) if Some(&file.content_hash) != segment.content_hash.as_ref() => {
            "was published with other rows than the manifest lists"
        }
        Some(_) => return,
    };
    found.push(Difference::WrongSegment { usage_date: day, segment_id: segment.segment_id, reason: reason.to_owned() });
}

/// Files that nobody knows. Those of unpublished segments are an export's that was interrupted: the next one goes on with them.
pub async fn find_unlisted(
    lake: &LakeStore,
    manifest: &Manifest,
    unpublished: &[Segment],
    found: &mut Vec<Difference>,
) -> Result<()> {
    let listed = manifest.files.iter().map(|file| file.name.as_str());
    let known: HashSet<&str> = listed.chain(manifest.retired.iter().map(|file| file.name.as_str())).collect();
    let coming: HashSet<String> =
        unpublished.iter().map(|segment| format!("/seg-{}.parquet", segment.segment_id)).collect();
    for folder in [HOT, LEDGER] {
        for name in lake.list(folder).await? {
            let end = name.rfind('/').map(|at| &name[at..]).unwrap_or_default();
            if !known.contains(name.as_str()) && !coming.contains(end) {
                found.push(Difference::UnlistedFile { name });
            }
        }
    }
    Ok(())
}

/// Adds a file's rows to the buckets of its day, and compares it with its entry in the manifest.
pub async fn add_file(
    lake: &LakeStore,
    listed: &LakeFile,
    mut buckets: Buckets,
    found: &mut Vec<Difference>,
) -> Result<Buckets> {
    let name = listed.name.clone();
    let Some(file) = lake.read(&name).await? else {
        found.push(Difference::MissingFile { name });
        return Ok(buckets);
    };
    let day = listed.usage_date;
    let (buckets, digest) = spawn_blocking(move || {
        let digest = add_rows(&name, file, day, &mut buckets);
        (buckets, digest)
    })
    .await?;
    let reason = match digest {
        Err(LakeError::Unreadable { reason, .. }) => format!("cannot be read: {reason}"),
        Err(error) => return Err(error),
        Ok(digest) if digest.rows != listed.rows => format!("has {} rows, not {}", digest.rows, listed.rows),
        Ok(digest) if digest.hash() != listed.content_hash => {
            "has other values than when it was written, or its hash in the manifest was changed".to_owned()
        }
        Ok(_) => return Ok(buckets),
    };
    found.push(Difference::WrongFile { name: listed.name.clone(), reason });
    Ok(buckets)
}

fn add_rows(name: &str, file: File, day: NaiveDate, buckets: &mut Buckets) -> Result<Digest> {
    let mut digest = Digest::default();
    for row in Rows::open(name, file, day)? {
        digest += buckets.add(&row?);
    }
    Ok(digest)
}
