//! The upload as bytes: unzipped where it is gzip, counted against the cap, and hashed.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use async_compression::tokio::bufread::GzipDecoder;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader, ReadBuf};

use super::SubmitError;

const BUFFER: usize = 64 << 10;
/// gzip's first byte; no JSON begins with it.
const GZIP: u8 = 0x1f;

pub struct Source<R> {
    input: Input<R>,
    hash: Sha256,
    read: u64,
    limit: u64,
}

enum Input<R> {
    Plain(BufReader<Watched<R>>),
    Gzip(Box<GzipDecoder<BufReader<Watched<R>>>>),
}

impl<R: AsyncRead + Unpin> Source<R> {
    /// Looks at the first byte, so that gzip needs no announcement. At most `limit` bytes are taken, counted unzipped.
    pub async fn open(reader: R, limit: u64) -> Result<Self, SubmitError> {
        let mut plain = BufReader::with_capacity(BUFFER, Watched { reader, broken: false });
        let zipped = plain.fill_buf().await.map_err(SubmitError::Cut)?.first() == Some(&GZIP);
        let input = if zipped {
            let mut decoder = GzipDecoder::new(plain);
            // Files that were zipped in parts and joined are valid gzip.
            decoder.multiple_members(true);
            Input::Gzip(Box::new(decoder))
        } else {
            Input::Plain(plain)
        };
        Ok(Self { input, hash: Sha256::new(), read: 0, limit })
    }

    /// Reads something; 0 is the end.
    pub async fn read(&mut self, room: &mut [u8]) -> Result<usize, SubmitError> {
        // A body that is all there would otherwise never let another task run.
        tokio::task::consume_budget().await;
        let read = match &mut self.input {
            Input::Plain(plain) => plain.read(room).await.map_err(SubmitError::Cut)?,
            Input::Gzip(gzip) => match gzip.read(room).await {
                Err(error) if gzip.get_ref().get_ref().broken => return Err(SubmitError::Cut(error)),
                read => read.map_err(SubmitError::Gzip)?,
            },
        };
        self.read += read as u64;
        if self.read > self.limit {
            return Err(SubmitError::TooLarge { limit: self.limit });
        }
        self.hash.update(&room[..read]);
        Ok(read)
    }

    /// All of it, in memory.
    pub async fn read_whole(&mut self) -> Result<Vec<u8>, SubmitError> {
        let mut whole = Vec::new();
        let mut piece = vec![0; BUFFER];
        loop {
            let read = self.read(&mut piece).await?;
            if read == 0 {
                return Ok(whole);
            }
            whole.extend_from_slice(&piece[..read]);
        }
    }

    /// Reads to the end, for the hash alone.
    pub async fn drain(&mut self) -> Result<(), SubmitError> {
        let mut scratch = vec![0; BUFFER];
        while self.read(&mut scratch).await? > 0 {}
        Ok(())
    }

    /// Bytes so far, unzipped.
    pub fn bytes(&self) -> u64 {
        self.read
    }

    /// SHA-256 of what was read.
    pub fn digest(&self) -> [u8; 32] {
        self.hash.clone().finalize().into()
    }
}

/// Knows whether an error was the reader's own: the decoder passes those on among its own.
struct Watched<R> {
    reader: R,
    broken: bool,
}

impl<R: AsyncRead + Unpin> AsyncRead for Watched<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.reader).poll_read(cx, room);
        self.broken |= matches!(read, Poll::Ready(Err(_)));
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_compression::tokio::bufread::GzipEncoder;

    async fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut zipped = Vec::new();
        GzipEncoder::new(plain).read_to_end(&mut zipped).await.unwrap();
        zipped
    }

    async fn whole(upload: &[u8], limit: u64) -> Result<(Vec<u8>, [u8; 32]), SubmitError> {
        let mut source = Source::open(upload, limit).await?;
        let read = source.read_whole().await?;
        Ok((read, source.digest()))
    }

    #[tokio::test]
    async fn gzip_is_the_same_upload_as_plain() {
        let plain = b"{\"a\":1}\n".repeat(50_000);
        let parts = [gzip(&plain[..70]).await, gzip(&plain[70..]).await].concat();
        let expected = whole(&plain, 1 << 20).await.unwrap();
        assert_eq!(expected.0, plain);
        assert_eq!(whole(&gzip(&plain).await, 1 << 20).await.unwrap(), expected);
        assert_eq!(whole(&parts, 1 << 20).await.unwrap(), expected);
    }

    #[tokio::test]
    async fn a_bomb_is_refused_at_the_cap() {
        let bomb = gzip(&vec![b' '; 50 << 20]).await;
        assert!(bomb.len() < 100 << 10);
        assert!(matches!(whole(&bomb, 1 << 20).await, Err(SubmitError::TooLarge { limit: 1_048_576 })));
    }

    #[tokio::test]
    async fn damaged_gzip_says_so() {
        let mut zipped = gzip(&b"x".repeat(10_000)).await;
        assert!(matches!(whole(&zipped[..zipped.len() - 9], 1 << 20).await, Err(SubmitError::Gzip(_))));
        let cut = zipped[..20].chain(tokio_util::io::StreamReader::new(futures::stream::iter([
            Ok(bytes::Bytes::new()),
            Err(io::Error::other("gone")),
        ])));
        let mut source = Source::open(cut, 1 << 20).await.unwrap();
        assert!(matches!(source.read_whole().await, Err(SubmitError::Cut(_))));
        let middle = zipped.len() / 2;
        zipped[middle] ^= 0xff;
        assert!(matches!(whole(&zipped, 1 << 20).await, Err(SubmitError::Gzip(_))));
        assert!(matches!(whole(b"\x1fnot gzip at all", 1 << 20).await, Err(SubmitError::Gzip(_))));
    }
}
