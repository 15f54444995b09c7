//! Reads a file's rows back, a batch at a time.

use std::{fs::File, vec};

use arrow_array::RecordBatch;
use chrono::NaiveDate;
use domain::LedgerRow;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use crate::{LakeError, Result, columns::Readers, digest::Digest};

const BATCH: usize = 1024;

/// The rows of one file, in the file's order.
pub struct Rows {
    name: String,
    usage_date: NaiveDate,
    batches: ParquetRecordBatchReader,
    ready: vec::IntoIter<LedgerRow>,
}

impl Rows {
    /// `name` is for errors; `usage_date` is the one in the file's path.
    pub fn open(name: &str, file: File, usage_date: NaiveDate) -> Result<Self> {
        let batches = ParquetRecordBatchReaderBuilder::try_new(file)
            .and_then(|builder| builder.with_batch_size(BATCH).build())
            .map_err(|error| LakeError::unreadable(name, error))?;
        Ok(Self { name: name.to_owned(), usage_date, batches, ready: Vec::new().into_iter() })
    }

    fn decode(&self, batch: &RecordBatch) -> Result<Vec<LedgerRow>, String> {
        let readers = Readers::new(batch)?;
        (0..batch.num_rows()).map(|row| readers.row(row, self.usage_date)).collect()
    }
}

impl Iterator for Rows {
    type Item = Result<LedgerRow>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.ready.next() {
                return Some(Ok(row));
            }
            let batch = match self.batches.next()? {
                Ok(batch) => batch,
                Err(error) => return Some(Err(LakeError::unreadable(&self.name, error))),
            };
            match self.decode(&batch) {
                Ok(rows) => self.ready = rows.into_iter(),
                Err(reason) => return Some(Err(LakeError::unreadable(&self.name, reason))),
            }
        }
    }
}

/// What a file holds.
pub fn digest_of(name: &str, file: File, usage_date: NaiveDate) -> Result<Digest> {
    let mut digest = Digest::default();
    for row in Rows::open(name, file, usage_date)? {
        digest += Digest::of(&row?);
    }
    Ok(digest)
}
