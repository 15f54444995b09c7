//! Writes rows as Parquet: one row group at a time in memory, encoded.

use std::{io::Write, mem};

use arrow_array::RecordBatch;
use domain::{LedgerRow, manifest::SCHEMA_VERSION};
use parquet::{
    arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions},
    basic::{Compression, ZstdLevel},
    errors::Result,
    file::{
        metadata::{KeyValue, SortingColumn},
        properties::{EnabledStatistics, WriterProperties},
    },
};

use crate::{
    columns::{self, Builders},
    digest::Digest,
};

/// Rows of one row group.
pub const ROW_GROUP: usize = 122_880;
const BATCH: usize = 1024;
/// Pages and dictionaries are small, because each of the columns buffers one of each: with the library's own sizes a row group
/// took 120 MB.
const PAGE_ROWS: usize = 5_000;
const DICTIONARY_BYTES: usize = 64 << 10;
/// Looked up one at a time; statistics cannot rule out a file for them.
const BLOOM_FILTERS: [&str; 3] = ["attempt_id", "request_id", "customer"];
/// Hardly any value twice: a dictionary would be built and thrown away.
const UNIQUE: [&str; 4] = ["attempt_id", "request_id", "custom_id", "provider_request_id"];

/// How the rows of a file are ordered; it is written into the footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// attempt_id
    Attempt,
    /// team, provider, model_billed, completed_at
    Billing,
}

impl Order {
    fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Attempt => &["attempt_id"],
            Self::Billing => &["team", "provider", "model_billed", "completed_at"],
        }
    }
}

pub struct FileWriter<W: Write + Send> {
    writer: ArrowWriter<W>,
    builders: Builders,
    buffered: usize,
    digest: Digest,
    bytes: Vec<u8>,
}

impl<W: Write + Send> FileWriter<W> {
    /// `rows` is how many will come; more or fewer cost space in the filters, nothing else.
    pub fn new(out: W, rows: u64, order: Order) -> Result<Self> {
        let options = ArrowWriterOptions::new()
            .with_properties(properties(rows, order)?)
            // An embedded Arrow schema would make some readers see types that others do not.
            .with_skip_arrow_metadata(true);
        Ok(Self {
            writer: ArrowWriter::try_new_with_options(out, columns::schema(), options)?,
            builders: Builders::new(BATCH),
            buffered: 0,
            digest: Digest::default(),
            bytes: Vec::with_capacity(1024),
        })
    }

    pub fn push(&mut self, row: &LedgerRow) -> Result<()> {
        self.bytes.clear();
        columns::encode(row, &mut self.bytes);
        self.digest += Digest::of_bytes(&self.bytes);
        self.builders.push(row);
        self.buffered += 1;
        if self.buffered == BATCH { self.write_batch() } else { Ok(()) }
    }

    pub fn rows(&self) -> u64 {
        self.digest.rows
    }

    fn write_batch(&mut self) -> Result<()> {
        if mem::take(&mut self.buffered) > 0 {
            let batch = RecordBatch::try_new(columns::schema(), self.builders.finish())?;
            self.writer.write(&batch)?;
        }
        Ok(())
    }

    /// Writes the footer. Gives the output back, with what was written to it.
    pub fn finish(mut self) -> Result<(W, Digest)> {
        self.write_batch()?;
        self.writer.append_key_value_metadata(KeyValue::new("content_hash".to_owned(), self.digest.hash()));
        Ok((self.writer.into_inner()?, self.digest))
    }
}

fn properties(rows: u64, order: Order) -> Result<WriterProperties> {
    let place = |name: &&str| columns::NAMES.iter().position(|column| column == name).unwrap_or_default() as i32;
    let sorting = order.columns().iter().map(|name| SortingColumn {
        column_idx: place(name),
        descending: false,
        nulls_first: false,
    });
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_max_row_group_row_count(Some(ROW_GROUP))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_sorting_columns(Some(sorting.collect()))
        .set_created_by(format!("tollway {}", env!("CARGO_PKG_VERSION")))
        .set_key_value_metadata(Some(vec![KeyValue::new("schema_version".to_owned(), SCHEMA_VERSION.to_string())]));
    for name in UNIQUE {
        properties = properties.set_column_dictionary_enabled(name.into(), false);
    }
    for name in BLOOM_FILTERS {
        properties = properties
            .set_column_bloom_filter_enabled(name.into(), true)
            .set_column_bloom_filter_fpp(name.into(), 0.01)
            .set_column_bloom_filter_max_ndv(name.into(), rows.clamp(1, ROW_GROUP as u64));
    }
    Ok(properties.build())
}
