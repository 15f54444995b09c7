//! Connections: accepted, served with HTTP/1.1 keep-alive, and let go of in order when the process ends.

use std::{io, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{app::App, router::router};

/// For a request's head to arrive, and the longest an idle connection is kept: longer than load balancers and SDKs commonly
/// keep theirs (60 s), so that it is they who close, and no request meets a connection that is just going.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` resolves; then takes no new connections, lets running answers end for as long as the settings
/// allow, and returns.
pub async fn serve(listener: TcpListener, app: App, shutdown: impl Future<Output = ()>) {
    let router = router(app.clone());
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let stream = tokio::select! {
            stream = accept(&listener) => stream,
            () = &mut shutdown => break,
        };
        connections.spawn(connection(stream, router.clone(), app.stopping.clone(), cut.clone()));
    }
    drop(listener);
    app.stopping.cancel();
    connections.close();
    if tokio::time::timeout(app.drain(), connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "Some answers did not end in time and are cut");
        cut.cancel();
        connections.wait().await;
    }
}

/// The next connection. A failed one, or too many open files, is no reason to stop accepting.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if is_of_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "No connection can be accepted; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn connection(stream: TcpStream, router: Router, stopping: CancellationToken, cut: CancellationToken) {
    // Answers are small and awaited: never hold one back to fill a packet.
    let _ = stream.set_nodelay(true);
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut serving = std::pin::pin!(serving);
    // Errors here are the peer's: it went away or broke the protocol.
    tokio::select! {
        _ = serving.as_mut() => return,
        () = cut.cancelled() => return,
        () = stopping.cancelled() => serving.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        _ = serving => {}
        () = cut.cancelled() => {}
    }
}
