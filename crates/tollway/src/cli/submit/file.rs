//! The file to submit, or standard input.

use std::path::Path;

use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use crate::cli::{Exit, Failure, Outcome};

pub type Reader = BufReader<Box<dyn AsyncRead + Send + Unpin>>;

pub struct Input {
    pub reader: Reader,
    /// `None`: standard input, a pipe.
    pub bytes: Option<u64>,
    pub is_gzip: bool,
}

/// Standard input or another pipe, copied into a file that goes when it is dropped; `None`: it is a file already.
pub async fn keep_pipe(path: &Path) -> Outcome<Option<NamedTempFile>> {
    let mut input = open(path).await?;
    if input.bytes.is_some() {
        return Ok(None);
    }
    let failed = |error| Failure::new(Exit::Failed, format_args!("cannot keep {} in a file: {error}", path.display()));
    let kept = NamedTempFile::new().map_err(failed)?;
    let mut copy = tokio::fs::File::from_std(kept.reopen().map_err(failed)?);
    tokio::io::copy_buf(&mut input.reader, &mut copy).await.map_err(failed)?;
    tokio::io::AsyncWriteExt::flush(&mut copy).await.map_err(failed)?;
    Ok(Some(kept))
}

pub async fn open(path: &Path) -> Outcome<Input> {
    let refused = |error: std::io::Error| {
        let exit = if error.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Failed };
        Failure::new(exit, format_args!("cannot read {}: {error}", path.display()))
    };
    let (source, bytes): (Box<dyn AsyncRead + Send + Unpin>, _) = if path == Path::new("-") {
        (Box::new(tokio::io::stdin()), None)
    } else {
        let file = tokio::fs::File::open(path).await.map_err(refused)?;
        let meta = file.metadata().await.map_err(refused)?;
        if meta.is_dir() {
            return Err(Failure::usage(format_args!("{} is a folder", path.display())));
        }
        (Box::new(file), meta.is_file().then_some(meta.len()))
    };
    let mut reader = BufReader::with_capacity(256 << 10, source);
    let is_gzip = reader.fill_buf().await.map_err(refused)?.starts_with(b"\x1f\x8b");
    Ok(Input { reader, bytes, is_gzip })
}
