//! Sorts more rows than fit in memory: sorted runs in temporary files, then one merge of them.
//!
//! A record is a key and the row's canonical bytes, each with its length before it. Keys compare as bytes in the order of
//! (team, provider, model_billed, completed_at, attempt_id).

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{self, BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write},
    mem,
    path::PathBuf,
};

use domain::LedgerRow;

use crate::{LakeError, Result, columns, digest::Digest};

/// What is kept in memory before it is sorted and written out.
const RUN_BYTES: usize = 12 << 20;
/// Runs that are merged at once; more are merged in several rounds.
const FAN_IN: usize = 64;
const BUFFER: usize = 32 << 10;

type Record = (Box<[u8]>, Box<[u8]>);

pub struct Sorter {
    place: PathBuf,
    records: Vec<Record>,
    bytes: usize,
    runs: Vec<File>,
}

impl Sorter {
    /// Runs go to unnamed files in the folder `place`.
    pub fn new(place: PathBuf) -> Self {
        Self { place, records: Vec::new(), bytes: 0, runs: Vec::new() }
    }

    /// Takes a row; gives its digest.
    pub fn push(&mut self, row: &LedgerRow) -> Result<Digest> {
        let mut bytes = Vec::with_capacity(768);
        columns::encode(row, &mut bytes);
        let digest = Digest::of_bytes(&bytes);
        let key = key(row);
        self.bytes += key.len() + bytes.len() + mem::size_of::<Record>();
        self.records.push((key, bytes.into_boxed_slice()));
        if self.bytes >= RUN_BYTES {
            self.spill()?;
        }
        Ok(digest)
    }

    fn failed(&self, error: io::Error) -> LakeError {
        LakeError::io(self.place.display(), error)
    }

    fn spill(&mut self) -> Result<()> {
        self.records.sort_unstable();
        self.bytes = 0;
        let records = mem::take(&mut self.records);
        let run = self.write_run(records.into_iter().map(Ok))?;
        self.runs.push(run);
        Ok(())
    }

    fn write_run(&self, records: impl Iterator<Item = io::Result<Record>>) -> Result<File> {
        let write = || -> io::Result<File> {
            let mut out = BufWriter::with_capacity(BUFFER, tempfile::tempfile_in(&self.place)?);
            for record in records {
                let (key, row) = record?;
                for part in [key, row] {
                    out.write_all(&(part.len() as u32).to_le_bytes())?;
                    out.write_all(&part)?;
                }
            }
            let mut file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.seek(SeekFrom::Start(0))?;
            Ok(file)
        };
        write().map_err(|error| self.failed(error))
    }

    /// All rows in order.
    pub fn merge(mut self) -> Result<Merged> {
        self.spill()?;
        while self.runs.len() > FAN_IN {
            let some: Vec<File> = self.runs.drain(..FAN_IN).collect();
            let merge = Merge::new(some).map_err(|error| self.failed(error))?;
            let run = self.write_run(merge)?;
            self.runs.push(run);
        }
        let runs = mem::take(&mut self.runs);
        let merge = Merge::new(runs).map_err(|error| self.failed(error))?;
        Ok(Merged { place: self.place, merge })
    }
}

fn key(row: &LedgerRow) -> Box<[u8]> {
    let mut key = Vec::with_capacity(96);
    for text in [&row.team, &row.provider, &row.model_billed] {
        key.extend_from_slice(text.as_bytes());
        // Below every byte of a text, so that a shorter text comes first, as in a comparison of texts.
        key.push(0);
    }
    let time = row.completed_at.timestamp_micros();
    // With the sign turned, the order of the bytes is the order of the numbers.
    key.extend_from_slice(&(time ^ i64::MIN).to_be_bytes());
    key.extend_from_slice(row.attempt_id.as_bytes());
    key.into_boxed_slice()
}

/// Records of several runs, in order.
struct Merge {
    runs: Vec<BufReader<File>>,
    heads: BinaryHeap<Reverse<(Record, usize)>>,
}

impl Merge {
    fn new(files: Vec<File>) -> io::Result<Self> {
        let runs = files.into_iter().map(|file| BufReader::with_capacity(BUFFER, file)).collect();
        let mut merge = Self { runs, heads: BinaryHeap::new() };
        for run in 0..merge.runs.len() {
            merge.pull(run)?;
        }
        Ok(merge)
    }

    fn pull(&mut self, run: usize) -> io::Result<()> {
        if let Some(key) = read_part(&mut self.runs[run])? {
            let row = read_part(&mut self.runs[run])?.ok_or(ErrorKind::UnexpectedEof)?;
            self.heads.push(Reverse(((key, row), run)));
        }
        Ok(())
    }
}

impl Iterator for Merge {
    type Item = io::Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((record, run)) = self.heads.pop()?;
        Some(self.pull(run).map(|()| record))
    }
}

/// A length and as many bytes; `None` at the end of the run.
fn read_part(run: &mut BufReader<File>) -> io::Result<Option<Box<[u8]>>> {
    let mut length = [0; 4];
    match run.read_exact(&mut length) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let mut part = vec![0; u32::from_le_bytes(length) as usize];
    run.read_exact(&mut part)?;
    Ok(Some(part.into_boxed_slice()))
}

/// The sorted rows.
pub struct Merged {
    place: PathBuf,
    merge: Merge,
}

impl Iterator for Merged {
    type Item = Result<LedgerRow>;

    fn next(&mut self) -> Option<Self::Item> {
        let failed = |error| LakeError::io(self.place.display(), error);
        Some(match self.merge.next()? {
            Ok((_, row)) => columns::decode(&row).ok_or_else(|| failed(ErrorKind::InvalidData.into())),
            Err(error) => Err(failed(error)),
        })
    }
}
