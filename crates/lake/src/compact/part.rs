//! The sorted rows of a day as files of bounded size.

use chrono::NaiveDate;
use domain::{
    LedgerRow,
    manifest::{LakeFile, SegmentSet},
};
use tempfile::NamedTempFile;
use tokio::task::spawn_blocking;

use super::sort::{Merged, Sorter};
use crate::{
    LakeError, LakeStore, Result,
    digest::Digest,
    export::length,
    file::{FileWriter, Order, digest_of},
    place::{LEDGER, Put},
};

/// About 250 MB. By rows, not by bytes, so that another version of the library cuts at the same place.
const PART_ROWS: u64 = 2_000_000;

struct Written {
    file: NamedTempFile,
    digest: Digest,
    rest: Merged,
    /// The first row of the next part.
    ahead: Option<LedgerRow>,
}

/// Writes all parts of a day. Gives their entries for the manifest and the digest of all of them.
pub async fn write_parts(
    lake: &LakeStore,
    sorter: Sorter,
    day: NaiveDate,
    segments: &SegmentSet,
    rows: u64,
) -> Result<(Vec<LakeFile>, Digest)> {
    let mut rest = spawn_blocking(move || sorter.merge()).await??;
    let mut ahead = None;
    let mut parts = Vec::new();
    let mut total = Digest::default();
    loop {
        let (scratch, place) = (lake.scratch()?, lake.scratch_place().display().to_string());
        let written = spawn_blocking(move || write_part(scratch, &place, ahead, rest, rows)).await??;
        let number = parts.len() + 1;
        let name = format!("{LEDGER}/usage_date={day}/part-{}-{number}.parquet", segments.last().unwrap_or_default());
        let bytes = length(lake, written.file.as_file())?;
        put(lake, &name, day, written.file, written.digest).await?;
        total += written.digest;
        parts.push(LakeFile {
            name,
            usage_date: day,
            rows: written.digest.rows,
            bytes,
            content_hash: written.digest.hash(),
            // All of them in each part: rows of one segment lie in several.
            segments: segments.clone(),
        });
        (rest, ahead) = (written.rest, written.ahead);
        if ahead.is_none() {
            return Ok((parts, total));
        }
    }
}

fn write_part(
    scratch: NamedTempFile,
    place: &str,
    first: Option<LedgerRow>,
    mut rest: Merged,
    rows: u64,
) -> Result<Written> {
    let failed = |error| LakeError::parquet(place, error);
    let mut writer = FileWriter::new(scratch, rows, Order::Billing).map_err(failed)?;
    if let Some(row) = first {
        writer.push(&row).map_err(failed)?;
    }
    let mut ahead = None;
    for row in &mut rest {
        let row = row?;
        if writer.rows() == PART_ROWS {
            ahead = Some(row);
            break;
        }
        writer.push(&row).map_err(failed)?;
    }
    let (file, digest) = writer.finish().map_err(failed)?;
    Ok(Written { file, digest, rest, ahead })
}

async fn put(lake: &LakeStore, name: &str, day: NaiveDate, file: NamedTempFile, digest: Digest) -> Result<()> {
    if lake.put_new(name, file).await? == Put::Created {
        return Ok(());
    }
    // Orphans were removed before we began, so only our own upload whose answer was lost can be there.
    let there = lake.read(name).await?.ok_or_else(|| LakeError::unreadable(name, "it was just there"))?;
    let at = name.to_owned();
    match spawn_blocking(move || digest_of(&at, there, day)).await?? == digest {
        true => Ok(()),
        false => Err(LakeError::Conflict { name: name.to_owned() }),
    }
}
