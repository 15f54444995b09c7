//! The journal on disk. It outlives the process, however that ends.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sync::locked;

/// A call's line is written when it arrives and again when it ends; the last line of a number counts. Each is one write,
/// done before the answer's last byte leaves, so a kill -9 of the simulator loses nothing that a client has seen.
pub struct JournalFile {
    file: Mutex<File>,
    errors: AtomicU64,
}

impl JournalFile {
    /// Opens or creates the file; also returns the highest number in it, 0 when it is new.
    pub fn open(path: &Path) -> io::Result<(Self, u64)> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .open(path)
            .map_err(|e| io::Error::new(e.kind(), format!("journal {}: {e}", path.display())))?;
        file.seek(SeekFrom::Start(0))?;
        let mut reader = BufReader::new(&mut file);
        let (mut last, mut line) = (0, Vec::new());
        while reader.read_until(b'\n', &mut line)? > 0 {
            last = last.max(number(&line).unwrap_or(0));
            if !line.ends_with(b"\n") {
                // A full disk can tear a line: ours begin on a fresh one.
                reader.get_mut().write_all(b"\n")?;
            }
            line.clear();
        }
        let errors = AtomicU64::new(0);
        Ok((Self { file: Mutex::new(file), errors }, last))
    }

    /// Appends one line. A failure is logged once and counted: the provider goes on answering.
    pub fn append(&self, line: &[u8]) {
        let written = locked(&self.file).write_all(line);
        if let Err(error) = written
            && self.errors.fetch_add(1, Ordering::Relaxed) == 0
        {
            tracing::error!(%error, "The journal's file cannot be written; /sim/stats counts the lines it lacks");
        }
    }

    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }
}

fn number(line: &[u8]) -> Option<u64> {
    let digits = line.strip_prefix(b"{\"seq\":")?;
    let end = digits.iter().position(|b| !b.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}
