//! Ledger → lake. Waiting batches are frozen into a segment, the segment is written as a file, the file is listed and the
//! segment marked. Whatever step a crash interrupts, the next run repeats it with the same name and the same rows.

mod write;

use chrono::{DateTime, NaiveDate, Utc};
use domain::manifest::LakeFile;
use serde::Serialize;
use store::{
    PgPool,
    export_segment::{self, LakeLock, Segment},
};

use crate::{LakeError, LakeStore, Result, replaced::remove_replaced};
pub(crate) use write::length;
pub use write::write;

/// The most rows of a segment. Half a row group: what an export holds in memory is one of these, encoded.
pub const SEGMENT_ROWS: i64 = crate::file::ROW_GROUP as i64 / 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Exported {
    pub segments: u64,
    pub rows: u64,
}

/// Brings everything into the lake that was in the ledger when it began. `now` stamps the manifest.
///
/// [`LakeError::Busy`] when another process is at it. After any other error the next run goes on where this one stopped; on
/// [`LakeError::NoSpace`] nothing partial is visible.
pub async fn export(pool: &PgPool, lake: &LakeStore, now: DateTime<Utc>) -> Result<Exported> {
    let lock = LakeLock::take(pool).await?.ok_or(LakeError::Busy)?;
    let done = export_waiting(pool, lake, now).await;
    lock.release().await?;
    done
}

async fn export_waiting(pool: &PgPool, lake: &LakeStore, now: DateTime<Utc>) -> Result<Exported> {
    lake.sweep().await?;
    refuse_a_lost_manifest(pool, lake).await?;
    match lake.manifest().await? {
        // An empty lake is a lake: readers tell it from a place that is none.
        None => lake.update(now, |_| {}).await?,
        // A compaction died before it had removed what it replaced; the next one may be a day away.
        Some(manifest) => remove_replaced(lake, manifest, now, &mut 0).await?,
    };
    let mut done = Exported::default();
    let left_over = export_segment::unpublished(&mut *pool.acquire().await?).await?;
    for segment in left_over {
        finish(pool, lake, &segment, now, &mut done).await?;
    }
    let waiting = export_segment::waiting(&mut *pool.acquire().await?).await?;
    for mut day in waiting {
        // What comes meanwhile waits for the next run, or this one would never end.
        while day.rows > 0 {
            let Some(segment) = freeze(pool, day.usage_date).await? else { break };
            finish(pool, lake, &segment, now, &mut done).await?;
            day.rows -= segment.rows;
        }
    }
    Ok(done)
}

/// Has every segment written anew by the next export: for a lake that was lost, or one that begins elsewhere. Gives the
/// number of segments. A lake that still has their files keeps them, if the rows are equal.
pub async fn republish(pool: &PgPool) -> Result<u64> {
    let lock = LakeLock::take(pool).await?.ok_or(LakeError::Busy)?;
    let segments = export_segment::unpublish_all(&mut *pool.acquire().await?).await;
    lock.release().await?;
    Ok(segments?)
}

pub(crate) async fn refuse_a_lost_manifest(pool: &PgPool, lake: &LakeStore) -> Result<()> {
    if lake.manifest().await?.is_none() && export_segment::any_published(&mut *pool.acquire().await?).await? {
        return Err(LakeError::ManifestLost { place: lake.to_string() });
    }
    Ok(())
}

/// Step 1: the oldest waiting batches of a day become a segment.
pub async fn freeze(pool: &PgPool, day: NaiveDate) -> Result<Option<Segment>> {
    let mut tx = pool.begin().await?;
    let segment = export_segment::freeze(&mut tx, day, SEGMENT_ROWS).await?;
    tx.commit().await?;
    Ok(segment)
}

async fn finish(
    pool: &PgPool,
    lake: &LakeStore,
    segment: &Segment,
    now: DateTime<Utc>,
    done: &mut Exported,
) -> Result<()> {
    let file = write(pool, lake, segment).await?;
    publish(pool, lake, segment, file, now).await?;
    done.segments += 1;
    done.rows += segment.rows as u64;
    Ok(())
}

/// Step 3: the file counts from here on. The manifest comes first: a segment that is marked but not listed would be lost.
pub async fn publish(
    pool: &PgPool,
    lake: &LakeStore,
    segment: &Segment,
    file: LakeFile,
    now: DateTime<Utc>,
) -> Result<()> {
    let content_hash = file.content_hash.clone();
    lake.update(now, move |manifest| {
        if !manifest.files.iter().any(|listed| listed.name == file.name) {
            manifest.files.push(file.clone());
        }
    })
    .await?;
    export_segment::publish(&mut *pool.acquire().await?, segment.segment_id, &content_hash).await?;
    tracing::info!(segment.id = segment.segment_id, day = %segment.usage_date, rows = segment.rows, "Published a segment");
    Ok(())
}
