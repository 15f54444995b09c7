//! The upload as bytes: unzipped where it is gzip, counted against the cap, and hashed.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use async_compression::tokio::bufread::GzipDecoder;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader, ReadBuf};

use super::{SubmitError, cooperate::Slice, ratio};

const BUFFER: usize = 64 << 10;
/// Packed bytes that are unpacked at a time. Twenty bytes can be a whole member of gzip, whose decoder is made anew.
const PACKED: usize = 16 << 10;
/// gzip's first byte; no JSON begins with it.
const GZIP: u8 = 0x1f;

pub struct Source<R> {
    input: Input<R>,
    hash: Sha256,
    read: u64,
    limit: u64,
    slice: Slice,
}

enum Input<R> {
    Plain(BufReader<Watched<R>>),
    Gzip(Box<GzipDecoder<BufReader<Watched<R>>>>),
}

impl<R: AsyncRead + Unpin> Source<R> {
    /// Looks at the first byte, so that gzip needs no announcement. At most `limit` bytes are taken, counted unzipped.
    pub async fn open(reader: R, limit: u64) -> Result<Self, SubmitError> {
        let mut plain = BufReader::with_capacity(PACKED, Watched::new(reader));
        let zipped = plain.fill_buf().await.map_err(SubmitError::Cut)?.first() == Some(&GZIP);
        let input = if zipped {
            let mut decoder = GzipDecoder::new(plain);
            // Files that were zipped in parts and joined are valid gzip.
            decoder.multiple_members(true);
            decoder.get_mut().get_mut().unpacked = Some(0);
            Input::Gzip(Box::new(decoder))
        } else {
            Input::Plain(plain)
        };
        Ok(Self { input, hash: Sha256::new(), read: 0, limit, slice: Slice::new() })
    }

    /// Reads something; 0 is the end.
    pub async fn read(&mut self, room: &mut [u8]) -> Result<usize, SubmitError> {
        // A body that is all there would otherwise never let another task run.
        self.slice.pause_if_over().await;
        let read = match &mut self.input {
            Input::Plain(plain) => plain.read(room).await.map_err(SubmitError::Cut)?,
            Input::Gzip(gzip) => match gzip.read(room).await {
                Err(error) => return Err(gzip.get_mut().get_mut().explain(error)),
                Ok(read) => read,
            },
        };
        self.read += read as u64;
        if self.read > self.limit {
            return Err(SubmitError::TooLarge { limit: self.limit });
        }
        if let Input::Gzip(gzip) = &mut self.input {
            let packed = gzip.get_mut().get_mut();
            packed.unpacked = Some(self.read);
            ratio::check(packed.read, self.read)?;
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

/// The packed bytes on their way into the decoder, which passes the reader's errors on among its own.
struct Watched<R> {
    reader: R,
    /// Why it gave no more.
    fault: Option<Fault>,
    /// Bytes so far, as they came.
    read: u64,
    /// What became of them, of gzip alone.
    unpacked: Option<u64>,
    /// Bytes since other tasks could run last.
    at_once: usize,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// The reader's own.
    Reader,
    /// Too little comes out of it; the decoder itself would go on without ever giving a byte.
    Hollow,
}

impl<R> Watched<R> {
    fn new(reader: R) -> Self {
        Self { reader, fault: None, read: 0, unpacked: None, at_once: 0 }
    }

    /// What a decoder's error is.
    fn explain(&self, error: io::Error) -> SubmitError {
        match self.fault {
            Some(Fault::Reader) => SubmitError::Cut(error),
            Some(Fault::Hollow) => {
                SubmitError::Hollow { packed: self.read, unpacked: self.unpacked.unwrap_or_default() }
            }
            None => SubmitError::Gzip(error),
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Watched<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.at_once) >= PACKED {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.unpacked.is_some_and(|unpacked| ratio::check_yield(self.read, unpacked).is_err()) {
            self.fault = Some(Fault::Hollow);
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let before = room.filled().len();
        let read = Pin::new(&mut self.reader).poll_read(cx, room);
        let came = room.filled().len() - before;
        self.read += came as u64;
        match read {
            Poll::Ready(Ok(())) => self.at_once += came,
            Poll::Ready(Err(_)) => self.fault = Some(Fault::Reader),
            Poll::Pending => {}
        }
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
    async fn a_bomb_of_blank_lines_is_refused_by_its_ratio() {
        let bomb = gzip(&vec![b'\n'; 50 << 20]).await;
        let refused = whole(&bomb, 20 << 30).await.unwrap_err();
        assert!(matches!(refused, SubmitError::Bomb { unpacked, .. } if unpacked < 34 << 20), "{refused}");
    }

    #[tokio::test]
    async fn a_bomb_in_many_members_is_refused_too() {
        let member = gzip(&vec![b' '; 1 << 20]).await;
        let refused = whole(&member.repeat(50), 20 << 30).await.unwrap_err();
        assert!(matches!(refused, SubmitError::Bomb { .. }), "{refused}");
    }

    /// The decoder goes from member to member and gives nothing out: only its input can be stopped.
    #[tokio::test]
    async fn members_that_hold_nothing_are_refused() {
        let empty = gzip(b"").await;
        let body = [gzip(b"{}\n").await, empty.repeat((2 << 20) / empty.len())].concat();
        let refused = whole(&body, 20 << 30).await.unwrap_err();
        assert!(matches!(refused, SubmitError::Hollow { packed, .. } if packed < 1 << 20), "{refused}");
    }

    #[tokio::test]
    async fn text_that_packs_well_is_taken() {
        let line = |n: u32| {
            let prompt = "You answer questions about our shop, politely and briefly. ".repeat(40);
            format!("{{\"custom_id\":\"doc-{n}\",\"body\":{{\"model\":\"chat\",\"prompt\":\"{prompt}\"}}}}\n")
        };
        let text: String = (0..20_000).map(line).collect();
        assert!(text.len() > 40 << 20);
        assert_eq!(whole(&gzip(text.as_bytes()).await, 20 << 30).await.unwrap().0.len(), text.len());
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
