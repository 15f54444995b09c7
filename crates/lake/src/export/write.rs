//! Step 2: a segment's rows become a file.

use domain::{
    LedgerRow,
    manifest::{LakeFile, SegmentSet},
};
use futures::TryStreamExt;
use store::{
    PgPool,
    export_segment::{self, Segment},
};
use tempfile::NamedTempFile;
use tokio::{sync::mpsc, task::spawn_blocking};

use crate::{
    LakeError, LakeStore, Result,
    digest::Digest,
    file::{FileWriter, Order, digest_of},
    storage::{HOT, LEDGER, PutOutcome},
};

/// Rows on their way from the database to the file, in chunks of this many.
const CHUNK: usize = 512;

/// Writes the file of a segment, or makes sure that the one that is there has its rows. Gives the file's entry for the manifest.
pub async fn write(pool: &PgPool, lake: &LakeStore, segment: &Segment) -> Result<LakeFile> {
    let manifest = lake.manifest().await?.unwrap_or_default();
    let folder = if manifest.is_sealed(segment.usage_date) { LEDGER } else { HOT };
    let name = format!("{folder}/usage_date={}/seg-{}.parquet", segment.usage_date, segment.segment_id);
    let elsewhere = manifest.files.iter().find(|file| file.segments.contains(segment.segment_id) && file.name != name);
    if let Some(file) = elsewhere {
        // Only a database that was set back can come here: its segments are in the lake already, under other names.
        return Err(LakeError::Conflict { name: file.name.clone() });
    }

    let (file, digest) = write_rows(pool, lake, segment).await?;
    if digest.rows != segment.rows as u64 {
        let Segment { segment_id, rows: frozen, .. } = *segment;
        return Err(LakeError::Incomplete { segment_id, frozen, found: digest.rows });
    }
    let mut bytes = length(lake, file.as_file())?;
    if lake.put_new(&name, file).await? == PutOutcome::AlreadyThere {
        let there = lake.read(&name).await?.ok_or_else(|| LakeError::unreadable(&name, "it was just there"))?;
        // Not byte for byte: another version of the Parquet library writes the same rows differently.
        bytes = length(lake, &there)?;
        let (at, day) = (name.clone(), segment.usage_date);
        if spawn_blocking(move || digest_of(&at, there, day)).await?? != digest {
            return Err(LakeError::Conflict { name });
        }
    }
    Ok(LakeFile {
        name,
        usage_date: segment.usage_date,
        rows: digest.rows,
        bytes,
        content_hash: digest.hash(),
        segments: SegmentSet::from_iter([segment.segment_id]),
    })
}

pub(crate) fn length(lake: &LakeStore, file: &std::fs::File) -> Result<u64> {
    Ok(file.metadata().map_err(|error| LakeError::io(lake.scratch_place().display(), error))?.len())
}

/// Streams the rows through a bounded channel into a writer on a thread of its own.
async fn write_rows(pool: &PgPool, lake: &LakeStore, segment: &Segment) -> Result<(NamedTempFile, Digest)> {
    let (send, receive) = mpsc::channel(2);
    let scratch = lake.scratch()?;
    let place = lake.scratch_place().display().to_string();
    let rows = segment.rows as u64;
    let writer = spawn_blocking(move || {
        write_received(scratch, receive, rows).map_err(|error| LakeError::parquet(place, error))
    });
    let fed = feed(pool, segment, send).await;
    // When the writer failed, feeding ended because of it.
    let written = writer.await??;
    fed?;
    Ok(written)
}

async fn feed(pool: &PgPool, segment: &Segment, send: mpsc::Sender<Vec<LedgerRow>>) -> Result<()> {
    let mut tx = pool.begin().await?;
    export_segment::allow_long_statements(&mut tx).await?;
    let mut chunks = export_segment::rows_of(&mut tx, segment).try_chunks(CHUNK);
    while let Some(chunk) = chunks.try_next().await.map_err(|error| error.1)? {
        if send.send(chunk).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn write_received(
    scratch: NamedTempFile,
    mut receive: mpsc::Receiver<Vec<LedgerRow>>,
    rows: u64,
) -> parquet::errors::Result<(NamedTempFile, Digest)> {
    let mut writer = FileWriter::new(scratch, rows, Order::Attempt)?;
    while let Some(chunk) = receive.blocking_recv() {
        for row in &chunk {
            writer.push(row)?;
        }
    }
    writer.finish()
}
