//! The sorted rows of a day as files of bounded size, made visible together.

use chrono::NaiveDate;
use domain::{
    LedgerRow,
    manifest::{LakeFile, Manifest, SegmentSet},
};
use tempfile::NamedTempFile;
use tokio::task::spawn_blocking;

use super::sort::{Merged, Sorter};
use crate::{
    LakeError, LakeStore, Result,
    digest::Digest,
    export::length,
    file::{FileWriter, Order, digest_of},
    storage::{LEDGER, PutOutcome},
};

/// About 250 MB. By rows, not by bytes, so that another version of the library cuts at the same place.
const PART_ROWS: u64 = 2_000_000;

/// A finished file that nobody sees yet.
pub struct Part {
    file: NamedTempFile,
    digest: Digest,
    /// Its entry in the manifest.
    pub listed: LakeFile,
}

struct Written {
    file: NamedTempFile,
    digest: Digest,
    rest: Merged,
    /// The first row of the next part.
    ahead: Option<LedgerRow>,
}

/// Writes all parts of a day into scratch files. Gives the digest of all of them, too.
pub async fn write_parts(
    lake: &LakeStore,
    sorter: Sorter,
    day: NaiveDate,
    segments: &SegmentSet,
    rows: u64,
) -> Result<(Vec<Part>, Digest)> {
    let mut rest = spawn_blocking(move || sorter.merge()).await??;
    let mut ahead = None;
    let mut parts: Vec<Part> = Vec::new();
    let mut total = Digest::default();
    loop {
        let (scratch, place) = (lake.scratch()?, lake.scratch_place().display().to_string());
        let written = spawn_blocking(move || write_part(scratch, &place, ahead, rest, rows)).await??;
        let number = parts.len() + 1;
        total += written.digest;
        let listed = LakeFile {
            name: format!("{LEDGER}/usage_date={day}/part-{}-{number}.parquet", segments.last().unwrap_or_default()),
            usage_date: day,
            rows: written.digest.rows,
            bytes: length(lake, written.file.as_file())?,
            content_hash: written.digest.hash(),
            // All of them in each part: rows of one segment lie in several.
            segments: segments.clone(),
        };
        parts.push(Part { file: written.file, digest: written.digest, listed });
        (rest, ahead) = (written.rest, written.ahead);
        if ahead.is_none() {
            return Ok((parts, total));
        }
    }
}

/// Makes the parts of a day visible. Who reads all of `ledger/` sees none of the day or all of it: in a folder they appear in one
/// step, in a bucket one after another, but only when all are written.
pub async fn show(lake: &LakeStore, manifest: &Manifest, day: NaiveDate, parts: Vec<Part>) -> Result<Vec<LakeFile>> {
    let listed: Vec<LakeFile> = parts.iter().map(|part| part.listed.clone()).collect();
    let mut unlisted = lake.list(&format!("{LEDGER}/usage_date={day}")).await?;
    unlisted.retain(|name| !manifest.files.iter().any(|file| file.name == *name));
    if are_there(lake, &parts, &unlisted).await? {
        return Ok(listed);
    }
    for name in unlisted {
        tracing::warn!(file = name, "Removing a file that an interrupted compaction left");
        lake.remove(&name).await?;
    }
    let (files, expected): (Vec<_>, Vec<_>) =
        parts.into_iter().map(|part| ((part.listed.name.clone(), part.file), (part.listed, part.digest))).unzip();
    if lake.put_together(files).await? == PutOutcome::Created {
        return Ok(listed);
    }
    // What was there is gone, so this can only be our own upload whose answer was lost.
    for (file, digest) in expected {
        if digest_there(lake, &file.name, day).await? != Some(digest) {
            return Err(LakeError::Conflict { name: file.name });
        }
    }
    Ok(listed)
}

/// Whether a compaction that died before it changed the manifest left exactly these files, whole.
async fn are_there(lake: &LakeStore, parts: &[Part], unlisted: &[String]) -> Result<bool> {
    if unlisted.len() != parts.len() {
        return Ok(false);
    }
    for Part { listed, digest, .. } in parts {
        let is_there = unlisted.contains(&listed.name);
        if !is_there || digest_there(lake, &listed.name, listed.usage_date).await? != Some(*digest) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The digest of the file's rows; `None` when it is not there or cannot be read.
async fn digest_there(lake: &LakeStore, name: &str, day: NaiveDate) -> Result<Option<Digest>> {
    let Some(file) = lake.read(name).await? else { return Ok(None) };
    let name = name.to_owned();
    match spawn_blocking(move || digest_of(&name, file, day)).await? {
        Ok(digest) => Ok(Some(digest)),
        Err(LakeError::Unreadable { .. }) => Ok(None),
        Err(error) => Err(error),
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
