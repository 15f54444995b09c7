//! Seals days. Two days after it ended, a day's segments become few large files in `ledger/`, in the order in which bills are
//! read. The files they replace are removed as soon as the manifest lists the new ones: who takes all files of the lake, listed
//! or not, would count their rows twice. A reader that holds the old manifest finds them gone, and reads the manifest again.

mod part;
mod sort;

use chrono::{DateTime, Days, NaiveDate, Utc};
use domain::manifest::{LakeFile, Manifest, RetiredFile, SegmentSet};
use serde::Serialize;
use store::{
    PgPool,
    export_segment::{self, LakeLock},
};
use tokio::task::spawn_blocking;

use crate::{
    LakeError, LakeStore, Result,
    digest::Digest,
    export::refuse_a_lost_manifest,
    file::Rows,
    replaced::remove_replaced,
    storage::{HOT, LEDGER},
};
use sort::Sorter;

/// A day is sealed when it ended this long ago: attempts that began in it have ended, retries included.
const SEAL_AFTER: Days = Days::new(2);

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Compacted {
    /// Days that had segments.
    pub days: u64,
    /// Files written.
    pub files: u64,
    pub rows: u64,
    /// Replaced files.
    pub removed: u64,
    pub sealed_through: Option<NaiveDate>,
}

/// Seals every day up to two days before `now`, as far as their rows are all exported, and removes the files that this replaces.
/// Repeating it after a crash is safe. [`LakeError::Busy`] when another process is at it.
pub async fn compact(pool: &PgPool, lake: &LakeStore, now: DateTime<Utc>) -> Result<Compacted> {
    let lock = LakeLock::take(pool).await?.ok_or(LakeError::Busy)?;
    let done = compact_finished(pool, lake, now).await;
    lock.release().await?;
    done
}

async fn compact_finished(pool: &PgPool, lake: &LakeStore, now: DateTime<Utc>) -> Result<Compacted> {
    lake.sweep().await?;
    refuse_a_lost_manifest(pool, lake).await?;
    let mut done = Compacted::default();
    let mut manifest = lake.manifest().await?.unwrap_or_default();
    manifest = remove_replaced(lake, manifest, now, &mut done.removed).await?;
    if let Some(through) = last_finished_day(pool, now).await? {
        let mut days: Vec<NaiveDate> = hot_files(&manifest).map(|file| file.usage_date).collect();
        days.retain(|day| *day <= through);
        days.sort_unstable();
        days.dedup();
        for day in days {
            manifest = compact_day(lake, &manifest, day, now, &mut done).await?;
        }
        if manifest.sealed_through.is_none_or(|sealed| sealed < through) {
            manifest = lake.update(now, move |manifest| seal(manifest, through)).await?;
        }
    }
    done.sealed_through = manifest.sealed_through;
    Ok(done)
}

/// The last day old enough to be sealed of which nothing waits for export. Days are sealed in order, without gaps.
async fn last_finished_day(pool: &PgPool, now: DateTime<Utc>) -> Result<Option<NaiveDate>> {
    let Some(oldest) = now.date_naive().checked_sub_days(SEAL_AFTER) else { return Ok(None) };
    let waiting = export_segment::first_unfinished_day(&mut *pool.acquire().await?, oldest).await?;
    Ok(match waiting {
        Some(day) => day.pred_opt(),
        None => Some(oldest),
    })
}

fn hot_files(manifest: &Manifest) -> impl Iterator<Item = &LakeFile> {
    manifest.files.iter().filter(|file| file.name.starts_with(HOT))
}

fn seal(manifest: &mut Manifest, day: NaiveDate) {
    manifest.sealed_through = manifest.sealed_through.max(Some(day));
}

async fn compact_day(
    lake: &LakeStore,
    manifest: &Manifest,
    day: NaiveDate,
    now: DateTime<Utc>,
    done: &mut Compacted,
) -> Result<Manifest> {
    let old: Vec<LakeFile> = hot_files(manifest).filter(|file| file.usage_date == day).cloned().collect();
    let segments: SegmentSet = old.iter().flat_map(|file| file.segments.iter()).collect();
    let (sorter, before) = sort(lake, &old).await?;
    let (parts, after) = part::write_parts(lake, sorter, day, &segments, before.rows).await?;
    if before != after {
        return Err(LakeError::Conflict { name: format!("{LEDGER}/usage_date={day}") });
    }
    let parts = part::show(lake, manifest, day, parts).await?;
    done.days += 1;
    done.files += parts.len() as u64;
    done.rows += after.rows;
    tracing::info!(%day, files.before = old.len(), files.after = parts.len(), rows = after.rows, "Sealed a day");
    let changed = lake.update(now, move |manifest| {
        let replaced = |file: &LakeFile| old.iter().any(|old| old.name == file.name);
        let (gone, mut live): (Vec<_>, Vec<_>) = manifest.files.drain(..).partition(replaced);
        let new = parts.iter().filter(|part| !live.iter().any(|file| file.name == part.name)).cloned();
        live.extend(new.collect::<Vec<_>>());
        manifest.files = live;
        manifest.retired.extend(gone.into_iter().map(|file| RetiredFile { name: file.name, retired_at: now }));
        seal(manifest, day);
    });
    remove_replaced(lake, changed.await?, now, &mut done.removed).await
}

/// All rows of the files, on their way through the sorter; and their digest, which must be the manifest's.
async fn sort(lake: &LakeStore, files: &[LakeFile]) -> Result<(Sorter, Digest)> {
    let mut sorter = Sorter::new(lake.scratch_place());
    let mut total = Digest::default();
    for listed in files {
        let name = listed.name.clone();
        let file =
            lake.read(&name).await?.ok_or_else(|| LakeError::unreadable(&name, "it is listed, but not there"))?;
        let day = listed.usage_date;
        let (with_rows, digest) = spawn_blocking(move || -> Result<_> {
            let mut digest = Digest::default();
            for row in Rows::open(&name, file, day)? {
                digest += sorter.push(&row?)?;
            }
            Ok((sorter, digest))
        })
        .await??;
        if Digest::parse(listed.rows, &listed.content_hash) != Some(digest) {
            return Err(LakeError::unreadable(&listed.name, "its rows are not those the manifest lists"));
        }
        sorter = with_rows;
        total += digest;
    }
    Ok((sorter, total))
}
