//! What can go wrong with the lake, named by what the operator can do about it.

use std::{error::Error, io};

#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    #[error("{url:?} is no place for a lake: give a folder or s3://bucket/prefix ({reason})")]
    BadUrl { url: String, reason: String },
    #[error(
        "no space left at {place}; the rows stay in Postgres, and the next export after you made space writes them"
    )]
    NoSpace { place: String },
    #[error("another process is writing to the lake; try again in a moment")]
    Busy,
    #[error(
        "the lake at {place} has no manifest, but the database says that segments were published; if the lake moved, point \
         Tollway at it, otherwise publish the whole ledger anew (`tollway lake export --again`)"
    )]
    ManifestLost { place: String },
    #[error("the lake's manifest has schema version {0}, which a newer Tollway wrote; upgrade this one")]
    TooNew(u32),
    #[error("{name} is already in the lake with other rows; does another database export to the same place?")]
    Conflict { name: String },
    #[error(
        "segment {segment_id} was frozen with {frozen} rows, but the ledger has {found} of them; do not export before you know why"
    )]
    Incomplete { segment_id: i64, frozen: i64, found: u64 },
    #[error("{name} in the lake cannot be read: {reason}")]
    Unreadable { name: String, reason: String },
    #[error("the manifest was changed by others {0} times in a row; try again in a moment")]
    Contended(u32),
    #[error("the lake cannot be written: {0}")]
    Parquet(parquet::errors::ParquetError),
    #[error("the lake at {place}: {source}")]
    Io { place: String, source: io::Error },
    #[error("the lake's object store: {0}")]
    Storage(object_store::Error),
    #[error("the lake's database: {0}")]
    Database(#[from] store::Error),
    #[error("the lake's writer ended early: {0}")]
    Stopped(#[from] tokio::task::JoinError),
}

impl LakeError {
    pub(crate) fn unreadable(name: &str, reason: impl ToString) -> Self {
        Self::Unreadable { name: name.to_owned(), reason: reason.to_string() }
    }

    /// An error of a file or folder at `place`.
    pub(crate) fn io(place: impl ToString, source: io::Error) -> Self {
        match is_full(&source) {
            true => Self::NoSpace { place: place.to_string() },
            false => Self::Io { place: place.to_string(), source },
        }
    }

    /// An error of the Parquet writer, whose file is at `place`.
    pub(crate) fn parquet(place: impl ToString, error: parquet::errors::ParquetError) -> Self {
        match is_full(&error) {
            true => Self::NoSpace { place: place.to_string() },
            false => Self::Parquet(error),
        }
    }
}

/// Whether a full disk or a used-up quota is behind it.
fn is_full(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            if matches!(io.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
                return true;
            }
            // An io::Error made from another error gives that one's source, not the error itself.
            if io.get_ref().is_some_and(|inner| is_full(inner)) {
                return true;
            }
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::errors::ParquetError;

    #[test]
    fn a_full_disk_is_found_however_deep() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        assert!(matches!(LakeError::io("x", full()), LakeError::NoSpace { .. }));
        assert!(matches!(LakeError::io("x", io::Error::other(full())), LakeError::NoSpace { .. }));
        assert!(matches!(LakeError::parquet("x", ParquetError::External(Box::new(full()))), LakeError::NoSpace { .. }));
        assert!(matches!(LakeError::io("x", io::ErrorKind::NotFound.into()), LakeError::Io { .. }));
    }
}
