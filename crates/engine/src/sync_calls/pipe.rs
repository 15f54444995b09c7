//! From the provider to a caller who may be slower: bounded in bytes, and never a reason to keep what the call holds.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::Stream;
use tokio::sync::{Semaphore, mpsc};

use super::DirectError;

/// Bytes that wait for a slow reader before the provider is made to wait.
const ROOM: usize = 256 << 10;
/// What a piece takes up at least.
const PIECE: usize = 256;

type Piece = Result<Bytes, DirectError>;

pub(super) struct Inlet {
    pieces: mpsc::UnboundedSender<Piece>,
    room: Arc<Semaphore>,
}

pub(super) struct Outlet {
    pieces: mpsc::UnboundedReceiver<Piece>,
    room: Arc<Semaphore>,
}

/// The caller has gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone;

pub(super) fn pipe() -> (Inlet, Outlet) {
    let (send, receive) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(ROOM));
    (Inlet { pieces: send, room: Arc::clone(&room) }, Outlet { pieces: receive, room })
}

/// The room that a piece takes up; one that is larger than all of it takes all.
fn size(piece: &Bytes) -> usize {
    piece.len().clamp(PIECE, ROOM)
}

impl Inlet {
    /// Waits for room; losing the future loses the piece.
    pub async fn send(&self, piece: Bytes) -> Result<(), Gone> {
        self.room.acquire_many(size(&piece) as u32).await.map_err(|_| Gone)?.forget();
        self.pieces.send(Ok(piece)).map_err(|_| Gone)
    }

    /// The last words, for which there is always room.
    pub fn fail(self, error: DirectError) {
        let _ = self.pieces.send(Err(error));
    }
}

impl Stream for Outlet {
    type Item = Piece;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        let piece = ready!(self.pieces.poll_recv(cx));
        if let Some(Ok(piece)) = &piece {
            self.room.add_permits(size(piece));
        }
        Poll::Ready(piece)
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.room.close();
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};

    use super::*;

    fn piece(length: usize) -> Bytes {
        vec![b'x'; length].into()
    }

    #[tokio::test]
    async fn what_waits_for_a_slow_reader_is_bounded_in_bytes() {
        for length in [1, 1_000, ROOM / 3, ROOM, 4 * ROOM] {
            let (inlet, mut outlet) = pipe();
            let mut waiting = 0;
            while inlet.send(piece(length)).now_or_never().is_some() {
                waiting += length.max(PIECE);
            }
            assert!(waiting <= ROOM.max(length), "{waiting} bytes of pieces of {length}");
            outlet.next().await.unwrap().unwrap();
            assert!(inlet.send(piece(length)).now_or_never().is_some(), "there is room again");
        }
    }

    #[tokio::test]
    async fn a_reader_that_goes_lets_go_of_who_waits_for_it() {
        let (inlet, outlet) = pipe();
        inlet.send(piece(ROOM)).await.unwrap();
        let waiting = tokio::spawn(async move { inlet.send(piece(1)).await });
        tokio::task::yield_now().await;
        drop(outlet);
        assert_eq!(waiting.await.unwrap(), Err(Gone));
    }

    #[tokio::test]
    async fn last_words_find_room_in_a_full_pipe() {
        let (inlet, mut outlet) = pipe();
        inlet.send(piece(ROOM)).await.unwrap();
        inlet.fail(DirectError::Unavailable);
        assert!(outlet.next().await.unwrap().is_ok());
        assert!(outlet.next().await.unwrap().is_err());
        assert!(outlet.next().await.is_none());
    }
}
