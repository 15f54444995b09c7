//! What a child process wrote, kept until its reader has it. Small output stays in memory, more goes to a temporary file without a
//! name, so that the child ends by itself however slowly it is read. All spools of a process together are bounded, and so are
//! one team's; a spool that is not read to its end in time is dropped.

use std::{
    collections::HashMap,
    io::{self, Read, Seek, SeekFrom, Write},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use tempfile::SpooledTempFile;
use tokio::task::spawn_blocking;

/// Kept in memory.
const IN_MEMORY: usize = 1 << 20;
const CHUNK: usize = 256 << 10;
/// For a reader to take all of it.
const MAX_LIFETIME: Duration = Duration::from_secs(3600);

/// How much all spools of a process hold.
#[derive(Debug)]
pub struct Spools {
    most: u64,
    lifetime: Duration,
    held: Mutex<HashMap<i64, u64>>,
}

/// Why no more is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    pub most: u64,
}

/// One output. Its bytes are free again when it is dropped.
#[derive(Debug)]
pub struct Spool {
    spools: Arc<Spools>,
    team_id: i64,
    bytes: u64,
    file: SpooledTempFile,
}

impl Spools {
    /// `most` bytes of all teams, half of that of one.
    pub fn new(most: u64) -> Arc<Self> {
        Arc::new(Self { most, lifetime: MAX_LIFETIME, held: Mutex::default() })
    }

    pub fn open(self: &Arc<Self>, team_id: i64) -> Spool {
        Spool { spools: Arc::clone(self), team_id, bytes: 0, file: SpooledTempFile::new(IN_MEMORY) }
    }

    fn reserve(&self, team_id: i64, bytes: u64) -> Result<(), Full> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let all: u64 = held.values().sum();
        let of_team = held.get(&team_id).copied().unwrap_or_default() + bytes;
        if all + bytes > self.most || of_team > self.most / 2 {
            return Err(Full { most: self.most / 2 });
        }
        held.insert(team_id, of_team);
        Ok(())
    }

    fn release(&self, team_id: i64, bytes: u64) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_team) = held.get_mut(&team_id) {
            *of_team = of_team.saturating_sub(bytes);
            if *of_team == 0 {
                held.remove(&team_id);
            }
        }
    }
}

impl Spool {
    /// Adds to its end; the outer error is the disk's.
    pub async fn append(mut self, bytes: Bytes) -> io::Result<Result<Self, Full>> {
        let more = bytes.len() as u64;
        if let Err(full) = self.spools.reserve(self.team_id, more) {
            return Ok(Err(full));
        }
        self.bytes += more;
        spawn_blocking(move || {
            self.file.write_all(&bytes)?;
            Ok(Ok(self))
        })
        .await
        .map_err(io::Error::other)?
    }

    /// All of it, for one reader.
    pub fn into_body(mut self) -> Body {
        if let Err(error) = self.file.seek(SeekFrom::Start(0)) {
            return Body::from_stream(stream::once(async { Err::<Bytes, _>(error) }));
        }
        let (lifetime, bytes) = (self.spools.lifetime, self.bytes);
        let kept = Arc::new(Mutex::new(Some(self)));
        // Without the reader, which may never ask again. A body that ended is gone by then, and nothing waits for it.
        if bytes > IN_MEMORY as u64 {
            let kept_for_long = Arc::downgrade(&kept);
            tokio::spawn(async move {
                tokio::time::sleep(lifetime).await;
                if let Some(kept) = kept_for_long.upgrade() {
                    drop(kept.lock().unwrap_or_else(PoisonError::into_inner).take());
                }
            });
        }
        let pieces = stream::try_unfold((kept, bytes), |(kept, left)| async move {
            if left == 0 {
                return Ok(None);
            }
            let of_reader = Arc::clone(&kept);
            let piece = spawn_blocking(move || read(&of_reader)).await.map_err(io::Error::other)??;
            let left = left.saturating_sub(piece.len() as u64);
            Ok::<_, io::Error>(Some((piece, (kept, left))))
        });
        Body::from_stream(pieces)
    }
}

fn read(kept: &Mutex<Option<Spool>>) -> io::Result<Bytes> {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    let spool = kept.as_mut().ok_or_else(|| io::Error::other("it was not read to its end in time"))?;
    let mut piece = vec![0; CHUNK];
    match spool.file.read(&mut piece)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        read => {
            piece.truncate(read);
            Ok(piece.into())
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.spools.release(self.team_id, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    async fn filled(spools: &Arc<Spools>, team_id: i64, bytes: usize) -> Result<Spool, Full> {
        let mut spool = spools.open(team_id);
        for piece in vec![b'x'; bytes].chunks(100_000) {
            spool = spool.append(Bytes::copy_from_slice(piece)).await.unwrap()?;
        }
        Ok(spool)
    }

    #[tokio::test]
    async fn what_was_written_is_read_from_memory_and_from_the_file() {
        let spools = Spools::new(100 << 20);
        for bytes in [0, 10, IN_MEMORY, 5 * IN_MEMORY + 7] {
            let body = filled(&spools, 1, bytes).await.unwrap().into_body();
            assert_eq!(axum::body::to_bytes(body, usize::MAX).await.unwrap().len(), bytes);
        }
        assert!(spools.held.lock().unwrap().is_empty(), "all of it is free again");
    }

    #[tokio::test]
    async fn a_team_has_half_of_the_room_and_others_the_rest() {
        let spools = Spools::new(4 << 20);
        let held = filled(&spools, 1, 2 << 20).await.unwrap();
        assert_eq!(filled(&spools, 1, 1).await.unwrap_err(), Full { most: 2 << 20 });
        let other = filled(&spools, 2, 2 << 20).await.unwrap();
        assert!(filled(&spools, 3, 1).await.is_err());
        drop((held, other));
        assert!(filled(&spools, 1, 1).await.is_ok());
    }

    #[tokio::test]
    async fn a_spool_that_nobody_reads_is_dropped_without_its_reader() {
        let spools = Arc::new(Spools { most: 100 << 20, lifetime: Duration::from_millis(50), held: Mutex::default() });
        let mut stalled = filled(&spools, 1, 3 << 20).await.unwrap().into_body().into_data_stream();
        assert!(stalled.next().await.unwrap().is_ok());
        tokio::time::timeout(Duration::from_secs(10), async {
            while !spools.held.lock().unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("its room is free although nobody asks for the rest");
        assert!(stalled.next().await.unwrap().is_err(), "and the rest is not taken for all");
    }
}
