//! Chunks on their way into the table: a task of its own writes one while the next is being read, so that reading and
//! writing overlap. A chunk is complete in memory before its transaction begins, so that no slow client holds one open.

use std::time::Duration;

use store::{
    PgPool,
    ingest::{self, Items, NewItem, Upload},
    quota::{self, Quota, Want},
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{error::Elapsed, timeout},
};

use super::SubmitError;

/// A chunk is full at either.
const CHUNK_ROWS: usize = 8_000;
const CHUNK_BYTES: usize = 4 << 20;
/// The time-out of one transaction. If it takes longer, the connection is dead.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// The upload that the items belong to, and the quota of its team.
#[derive(Debug, Clone, Copy)]
pub struct QuotaRoom {
    pub upload: Upload,
    pub team_id: i64,
    /// For teams without one of their own.
    pub quota: Quota,
}

impl QuotaRoom {
    /// Reserves room for the next chunk.
    pub async fn make(&self, pool: &PgPool, requests: i64, bytes: i64) -> Result<(), SubmitError> {
        let want = Want { team_id: self.team_id, job_id: self.upload.job_id, requests, bytes };
        match timeout(WRITE_TIMEOUT, quota::reserve_now(pool, want, self.quota)).await.map_err(out_of_time)? {
            Ok(None) => Ok(()),
            Ok(Some(over)) => Err(SubmitError::over(over)),
            // Given up in this worker's place, and removed already.
            Err(error) if error.as_database_error().is_some_and(|e| e.is_foreign_key_violation()) => {
                Err(SubmitError::Abandoned)
            }
            Err(error) => Err(error.into()),
        }
    }
}

struct Chunk {
    items: Items,
    flow_ids: Vec<i64>,
}

/// Holds at most three chunks: one being filled, one waiting, one being written. Dropped, it writes what was handed over.
pub struct Writer {
    /// Taken when no more will come.
    chunks: Option<mpsc::Sender<Chunk>>,
    spare: mpsc::Receiver<Items>,
    items: Items,
    task: JoinHandle<Result<(), SubmitError>>,
}

impl Writer {
    pub fn start(pool: PgPool, room: QuotaRoom) -> Self {
        let (chunks, waiting) = mpsc::channel(1);
        let (back, spare) = mpsc::channel(3);
        let task = tokio::spawn(write_all(pool, room, waiting, back));
        Self { chunks: Some(chunks), spare, items: Items::new(0), task }
    }

    /// Whether a request of so many bytes goes into the chunk that is being filled; one that is larger than a chunk has its own.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.items.is_empty() || self.items.bytes().saturating_add(bytes) <= CHUNK_BYTES
    }

    /// Adds a request; true when the chunk is full and should be flushed.
    pub fn push(&mut self, item: NewItem<'_>) -> bool {
        self.items.push(item);
        self.items.len() >= CHUNK_ROWS || self.items.bytes() >= CHUNK_BYTES
    }

    /// Hands the chunk over; waits while another one is waiting.
    pub async fn flush(&mut self, flow_ids: Vec<i64>) -> Result<(), SubmitError> {
        if self.items.is_empty() {
            return Ok(());
        }
        let empty = self.spare.try_recv().unwrap_or_else(|_| Items::new(0));
        let chunk = Chunk { items: std::mem::replace(&mut self.items, empty), flow_ids };
        match &self.chunks {
            Some(chunks) if chunks.send(chunk).await.is_ok() => Ok(()),
            // The task ends early only with an error.
            _ => self.close().await,
        }
    }

    /// Waits until all chunks are in the table, or one of them failed. Once.
    pub async fn close(&mut self) -> Result<(), SubmitError> {
        self.chunks = None;
        let ended = (&mut self.task).await;
        ended.unwrap_or_else(|error| Err(SubmitError::Unavailable(store::Error::Io(std::io::Error::other(error)))))
    }
}

async fn write_all(
    pool: PgPool,
    room: QuotaRoom,
    mut waiting: mpsc::Receiver<Chunk>,
    back: mpsc::Sender<Items>,
) -> Result<(), SubmitError> {
    while let Some(mut chunk) = waiting.recv().await {
        room.make(&pool, chunk.items.len() as i64, chunk.items.bytes() as i64).await?;
        let written = timeout(WRITE_TIMEOUT, write(&pool, room.upload, &mut chunk)).await.map_err(out_of_time)?;
        if !written? {
            return Err(SubmitError::Abandoned);
        }
        // Nobody waits for it any more when the upload has just ended.
        let _ = back.try_send(chunk.items);
    }
    Ok(())
}

async fn write(pool: &PgPool, upload: Upload, chunk: &mut Chunk) -> store::Result<bool> {
    let mut tx = ingest::begin_append(pool).await?;
    let ours = ingest::append(&mut tx, upload, &chunk.flow_ids, &mut chunk.items).await?;
    tx.commit().await?;
    Ok(ours)
}

pub fn out_of_time(_: Elapsed) -> SubmitError {
    SubmitError::Unavailable(store::Error::Io(std::io::ErrorKind::TimedOut.into()))
}
