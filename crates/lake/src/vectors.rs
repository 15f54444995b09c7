//! Embeddings as Parquet: one row for each vector of a job's results.

use std::{io::Write, sync::Arc};

use arrow_array::{
    ArrayRef, RecordBatch,
    builder::{Float32Builder, Int32Builder, ListBuilder, StringBuilder},
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::{
    arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions},
    basic::{Compression, ZstdLevel},
    errors::{ParquetError, Result},
    file::properties::WriterProperties,
};

/// Vectors that are collected before they are handed to the writer.
const BATCH_BYTES: usize = 1 << 20;
/// A row group is held in memory until it is written.
const ROW_GROUP_BYTES: usize = 16 << 20;

/// One vector of one result line.
#[derive(Debug, Clone, Copy)]
pub struct Vector<'a> {
    /// The line of the request, counted from 1.
    pub line: i32,
    pub custom_id: &'a str,
    /// Which of the request's inputs, counted from 0 as the provider does.
    pub index: i32,
    pub model: &'a str,
    pub embedding: &'a [f32],
}

/// Writes the columns line, custom_id, index, model and embedding (a list of Float32), in bounded memory. Vectors of different
/// lengths may stand in one file.
pub struct VectorWriter<W: Write + Send> {
    writer: ArrowWriter<W>,
    schema: SchemaRef,
    rows: Builders,
    bytes: usize,
}

struct Builders {
    line: Int32Builder,
    custom_id: StringBuilder,
    index: Int32Builder,
    model: StringBuilder,
    embedding: ListBuilder<Float32Builder>,
}

fn element() -> Arc<Field> {
    Arc::new(Field::new("element", DataType::Float32, false))
}

impl<W: Write + Send> VectorWriter<W> {
    pub fn new(out: W) -> Result<Self> {
        let schema = Arc::new(Schema::new(vec![
            Field::new("line", DataType::Int32, false),
            Field::new("custom_id", DataType::Utf8, false),
            Field::new("index", DataType::Int32, false),
            Field::new("model", DataType::Utf8, false),
            Field::new("embedding", DataType::List(element()), false),
        ]));
        let numbers = "embedding.list.element";
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
            .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
            .set_column_dictionary_enabled("custom_id".into(), false)
            // The digits of an embedding are as good as random: neither repeated nor compressible.
            .set_column_dictionary_enabled(parquet::schema::types::ColumnPath::from(numbers), false)
            .set_column_compression(numbers.into(), Compression::UNCOMPRESSED)
            .build();
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let rows = Builders {
            line: Int32Builder::new(),
            custom_id: StringBuilder::new(),
            index: Int32Builder::new(),
            model: StringBuilder::new(),
            embedding: ListBuilder::new(Float32Builder::new()).with_field(element()),
        };
        let writer = ArrowWriter::try_new_with_options(out, schema.clone(), options)?;
        Ok(Self { writer, schema, rows, bytes: 0 })
    }

    pub fn push(&mut self, vector: Vector<'_>) -> Result<()> {
        self.rows.line.append_value(vector.line);
        self.rows.custom_id.append_value(vector.custom_id);
        self.rows.index.append_value(vector.index);
        self.rows.model.append_value(vector.model);
        self.rows.embedding.values().append_slice(vector.embedding);
        self.rows.embedding.append(true);
        self.bytes += size_of_val(vector.embedding) + vector.custom_id.len() + vector.model.len() + 32;
        if self.bytes >= BATCH_BYTES { self.write_batch() } else { Ok(()) }
    }

    fn write_batch(&mut self) -> Result<()> {
        if std::mem::take(&mut self.bytes) > 0 {
            let rows = &mut self.rows;
            let arrays: Vec<ArrayRef> = vec![
                Arc::new(rows.line.finish()),
                Arc::new(rows.custom_id.finish()),
                Arc::new(rows.index.finish()),
                Arc::new(rows.model.finish()),
                Arc::new(rows.embedding.finish()),
            ];
            let batch = RecordBatch::try_new(self.schema.clone(), arrays).map_err(ParquetError::from)?;
            self.writer.write(&batch)?;
        }
        Ok(())
    }

    /// Writes the footer, without which nobody can read the file.
    pub fn finish(mut self) -> Result<W> {
        self.write_batch()?;
        self.writer.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{cast::AsArray, types::Float32Type};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    #[test]
    fn vectors_read_back_as_they_were() {
        let mut writer = VectorWriter::new(Vec::new()).unwrap();
        let embedding = |n: i32| (0..1536).map(|d| (n * 1536 + d) as f32 / 7.0).collect::<Vec<_>>();
        for n in 0..2000 {
            let custom_id = format!("doc-{n}");
            let row = Vector { line: n + 1, custom_id: &custom_id, index: n % 3, model: "m", embedding: &embedding(n) };
            writer.push(row).unwrap();
        }
        let file = bytes::Bytes::from(writer.finish().unwrap());
        let builder = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap();
        assert!(builder.metadata().num_row_groups() > 1 || file.len() < ROW_GROUP_BYTES);
        let mut n = 0;
        for batch in builder.build().unwrap() {
            let batch = batch.unwrap();
            let lines = batch["line"].as_primitive::<arrow_array::types::Int32Type>();
            let ids = batch["custom_id"].as_string::<i32>();
            let vectors = batch["embedding"].as_list::<i32>();
            for row in 0..batch.num_rows() {
                assert_eq!((lines.value(row), ids.value(row)), (n + 1, format!("doc-{n}").as_str()));
                assert_eq!(vectors.value(row).as_primitive::<Float32Type>().values(), &embedding(n)[..]);
                n += 1;
            }
        }
        assert_eq!(n, 2000);
    }

    #[test]
    fn a_file_without_vectors_can_be_read() {
        let file = bytes::Bytes::from(VectorWriter::new(Vec::new()).unwrap().finish().unwrap());
        let mut batches = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
        assert!(batches.next().is_none());
    }
}
