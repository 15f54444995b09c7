//! The other end of a connection. HTTP alone notices late that it has gone: bytes that are still to be read lie ahead of the end.

use std::{
    convert::Infallible,
    io::{self, IoSlice},
    net::Shutdown,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{extract::FromRequestParts, http::request::Parts};
use futures::FutureExt;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

use crate::problem::{Kind, Problem};

/// How often work for a client checks whether the client is still connected.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// A client that takes nothing of its answer for this long is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(300);
/// The interval of TCP keepalive probes on an idle connection.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);

/// Who asked, as far as the connection knows. Absent in tests that need none.
#[derive(Clone)]
pub struct Peer(Option<Arc<TcpStream>>);

impl Peer {
    pub fn new(stream: TcpStream) -> (Self, Io) {
        let stream = Arc::new(stream);
        // Answers are small and awaited: never hold one back to fill a packet.
        let _ = stream.set_nodelay(true);
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_INTERVAL).with_interval(KEEPALIVE_INTERVAL);
        let _ = SockRef::from(&*stream).set_tcp_keepalive(&keepalive);
        (Self(Some(Arc::clone(&stream))), Io { stream, blocked: None })
    }

    /// Does the work unless the client goes away before its end; then the work is dropped. For work that takes long after the last byte
    /// of its request was sent.
    pub async fn while_there<T>(&self, work: impl Future<Output = T>) -> Result<T, Problem> {
        tokio::select! {
            done = work => Ok(done),
            () = self.gone() => Err(Problem::new(Kind::BadRequest, "The client went away.")),
        }
    }

    async fn gone(&self) {
        let Some(stream) = &self.0 else { return std::future::pending().await };
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            // Answers at once while there are bytes to read, which is when hyper cannot see the end behind them.
            if let Some(Ok(ready)) = stream.ready(Interest::READABLE).now_or_never()
                && ready.is_read_closed()
            {
                return;
            }
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or(Self(None)))
    }
}

/// The connection's bytes. A write that the other end does not take for long is an error.
pub struct Io {
    stream: Arc<TcpStream>,
    /// Until when the write that waits may wait.
    blocked: Option<Pin<Box<Sleep>>>,
}

impl Io {
    fn poll_writable<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            match self.stream.poll_write_ready(cx) {
                Poll::Ready(Ok(())) => match write(&self.stream) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    written => {
                        self.blocked = None;
                        return Poll::Ready(written);
                    }
                },
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    let blocked = self.blocked.get_or_insert_with(|| Box::pin(sleep(WRITE_TIMEOUT)));
                    ready!(blocked.as_mut().poll(cx));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match self.stream.try_read_buf(room) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(|_| ())),
            }
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_writable(cx, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_writable(cx, |stream| stream.try_write_vectored(parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.stream).shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn a_client_that_goes_away_ends_the_work_although_bytes_are_unread() {
        let (mut client, server) = pair().await;
        let (peer, _io) = Peer::new(server);
        client.write_all(b"bytes that nobody reads").await.unwrap();
        drop(client);
        let work = peer.while_there(std::future::pending::<()>());
        let ended = tokio::time::timeout(Duration::from_secs(10), work).await.expect("it is noticed");
        assert_eq!(ended.unwrap_err().detail, "The client went away.");
    }

    #[tokio::test]
    async fn a_client_that_waits_has_its_work_done() {
        let (mut client, server) = pair().await;
        let (peer, _io) = Peer::new(server);
        client.write_all(b"bytes that nobody reads").await.unwrap();
        let work = tokio::time::sleep(POLL_INTERVAL * 3);
        assert!(peer.while_there(work).await.is_ok());
    }
}
