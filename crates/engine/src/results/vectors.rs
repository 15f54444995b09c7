//! Embedding vectors as rows of a table, for who writes them to Parquet: a process of its own, with a connection of its own.

use std::borrow::Cow;

use bytes::Bytes;
use domain::JobId;
use serde::Deserialize;
use store::{
    PgConnection, PgPool,
    result::{self, Finished, PageSize, Span},
};

use super::{ResultsError, render};

/// Lines of one statement that counts.
const COUNTED_AT_ONCE: i32 = 200_000;
const PAGE: PageSize = PageSize { rows: 500, bytes: 4 << 20 };

/// One vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    pub line: i32,
    pub custom_id: String,
    /// As the provider named it.
    pub model: Option<String>,
    /// Which of the request's inputs it is of.
    pub index: i32,
    /// Little-endian f32.
    data: Bytes,
}

impl Embedded {
    pub fn floats(&self) -> impl ExactSizeIterator<Item = f32> + '_ {
        self.data.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
    }
}

#[derive(Debug)]
pub struct EmbeddedPage {
    pub rows: Vec<Embedded>,
    /// Where the next page starts; `until` when all was read.
    pub next: i32,
}

/// The vectors of the finished lines `[from, until)`, as far as one page of about 4 MiB holds them.
pub async fn vectors_page(conn: &mut PgConnection, job: JobId, from: i32, until: i32) -> store::Result<EmbeddedPage> {
    let page = result::page(conn, job.0, Span { from, until, failed_only: false }, PAGE).await?;
    let mut rows = Vec::new();
    for row in page.rows {
        let (Some(vectors), Some(body)) = (render::vectors(&row), &row.body) else { continue };
        let envelope = Envelope::read(body, vectors.count);
        for place in envelope.data {
            let Some(range) = vectors.row(place.embedding) else { continue };
            rows.push(Embedded {
                line: row.line,
                custom_id: row.custom_id.clone(),
                model: envelope.model.as_deref().map(str::to_owned),
                index: place.index,
                data: vectors.data.slice_ref(range),
            });
        }
    }
    Ok(EmbeddedPage { rows, next: page.next })
}

/// The lines of a job, as a table of its vectors has them. Together they are all lines that were accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VectorLines {
    pub with_vectors: i64,
    /// They ended without a vector: failed, cancelled, expired, or not of embeddings.
    pub left_out: i64,
    pub pending: i64,
}

/// Counts them, in steps, so that no statement is long.
pub async fn count_vectors(pool: &PgPool, job: JobId) -> Result<VectorLines, ResultsError> {
    let source = result::source(&mut *pool.acquire().await?, job.0).await?.ok_or(ResultsError::NoJob)?;
    if source.purged {
        return Err(ResultsError::Purged);
    }
    let until = i32::try_from(source.accepted).unwrap_or(i32::MAX - 1) + 1;
    let mut finished = Finished::default();
    let mut from = 1;
    while from < until {
        let next = from.saturating_add(COUNTED_AT_ONCE).min(until);
        let step = result::count(&mut *pool.acquire().await?, job.0, from, next).await?;
        finished.lines += step.lines;
        finished.with_vectors += step.with_vectors;
        from = next;
    }
    let derived = source.cancelled + source.expired;
    Ok(VectorLines {
        with_vectors: finished.with_vectors,
        left_out: finished.lines - finished.with_vectors + derived,
        pending: (source.accepted - finished.lines - derived).max(0),
    })
}

/// The stored answer: where a vector was stands the number of its row.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
    data: Vec<VectorIndex>,
}

#[derive(Deserialize)]
struct VectorIndex {
    index: i32,
    embedding: u32,
}

impl<'a> Envelope<'a> {
    /// An answer that leaves its indices out has its vectors in the order of the inputs.
    fn read(body: &'a str, count: u32) -> Self {
        let in_order = || (0..count).map(|row| VectorIndex { index: row as i32, embedding: row }).collect();
        serde_json::from_str(body).unwrap_or_else(|_| Self { model: None, data: in_order() })
    }
}
