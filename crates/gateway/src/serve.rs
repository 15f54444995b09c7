//! Connections: accepted, served with HTTP/1.1 keep-alive, and let go of in order when the process ends.
//!
//! A shutdown has four steps. *Leaving*: `/readyz` says no and every answer asks its client to close the connection, but all is
//! served as before, while load balancers find out. *Stopping*: the listener closes, idle connections and endless answers end.
//! *Cutting*: what still runs when the drain is over is told so, in the form that it was promised. Then connections are closed.

use std::{convert::Infallible, io, pin::Pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, HttpBody},
    http::{HeaderValue, Request, Response, header},
};
use bytes::Bytes;
use hyper::{
    body::{Frame, Incoming, SizeHint},
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    App,
    auth::ClientAddress,
    connections::{Busy, Connection, Connections, Seat, SeatKind},
    peer::Peer,
    problem::Problem,
    router::router,
    standing::shutting_down,
    surface::Surface,
};

/// For a request's head to arrive, and the longest an idle connection is kept: longer than load balancers and SDKs commonly
/// keep theirs (60 s), so that it is they who close, and no request meets a connection that is just going.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);
/// For the first head of a new connection: nobody connects ahead of time for longer.
const FIRST_HEADER_TIMEOUT: Duration = Duration::from_secs(20);
/// For all that a connection of the reserve does.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);
/// For an idle connection that was asked to end, and for the last words of answers that were cut.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

type Web = TowerToHyperService<Router>;

/// Serves until `shutdown` resolves, and for as long after that as load balancers need to notice; then takes no new connections,
/// lets running answers end for as long as the settings allow, and returns.
pub async fn serve(listener: TcpListener, app: App, shutdown: impl Future<Output = ()>) {
    let web = TowerToHyperService::new(router(app.clone()));
    let seats = Connections::new(app.engine.settings.connections);
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    let mut left = std::pin::pin!(async {
        shutdown.await;
        app.leaving.cancel();
        tokio::time::sleep(app.engine.settings.shutdown_delay).await;
    });
    loop {
        let (stream, address) = tokio::select! {
            accepted = accept(&listener) => accepted,
            () = &mut left => break,
        };
        let seat = seats.admit(address, std::time::Instant::now());
        connections.spawn(serve_connection(stream, seat, app.clone(), web.clone(), cut.clone()));
    }
    drop(listener);
    app.stopping.cancel();
    connections.close();
    if tokio::time::timeout(app.drain(), connections.wait()).await.is_ok() {
        return;
    }
    tracing::warn!(connections = connections.len(), "Some answers did not end in time and are cut");
    app.cutting.cancel();
    // Streams of synchronous calls end with the error event that their callers were promised.
    app.engine.calls.cut();
    if tokio::time::timeout(CLOSE_TIMEOUT, connections.wait()).await.is_err() {
        cut.cancel();
        connections.wait().await;
    }
}

/// The next connection. A failed one, or too many open files, is no reason to stop accepting.
async fn accept(listener: &TcpListener) -> (TcpStream, std::net::IpAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => return (stream, address.ip()),
            Err(error) if is_of_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "No connection can be accepted; trying again");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn serve_connection(stream: TcpStream, seat: Seat, app: App, web: Web, cut: CancellationToken) {
    match &seat.kind {
        SeatKind::Full(connection) => full(stream, connection, app, web, cut).await,
        SeatKind::HealthOnly(given_up) => {
            let serving = tokio::time::timeout(HEALTH_TIMEOUT, health_only(stream, web));
            tokio::select! {
                _ = serving => {}
                () = given_up.cancelled() => {}
                () = cut.cancelled() => {}
            }
        }
    }
}

async fn full(stream: TcpStream, connection: &Arc<Connection>, app: App, web: Web, cut: CancellationToken) {
    let address = stream.peer_addr().ok().map(|address| ClientAddress(address.ip()));
    let (peer, io) = Peer::new(stream);
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        address.map(|address| request.extensions_mut().insert(address));
        let (busy, surface) = (connection.begin_request(), Surface::of(request.uri().path()));
        let (answer, app) = (web.call(request), app.clone());
        async move {
            let answer = tokio::select! {
                answer = answer => match answer { Ok(answer) => answer },
                () = app.cutting.cancelled() => {
                    surface.refuse(shutting_down())
                }
            };
            Ok::<_, Infallible>(finish(answer, &app).map(|body| Answering { body, _busy: busy }))
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(io), service);
    let mut serving = std::pin::pin!(serving);
    // Errors here are the peer's: it went away or broke the protocol.
    tokio::select! {
        _ = serving.as_mut() => return,
        () = silent(connection) => return,
        () = cut.cancelled() => return,
        () = connection.evicted().cancelled() => {
            if connection.is_new() {
                return;
            }
            serving.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, serving).await;
            return;
        }
        () = app.stopping.cancelled() => serving.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        _ = serving => {}
        () = cut.cancelled() => {}
    }
}

/// Resolves when no request came in time after the connection was made.
async fn silent(connection: &Connection) {
    tokio::time::sleep(FIRST_HEADER_TIMEOUT).await;
    if !connection.is_new() {
        std::future::pending::<()>().await;
    }
}

/// Answers one request: health as always, everything else with a refusal.
async fn health_only(stream: TcpStream, web: Web) -> hyper::Result<()> {
    let service = service_fn(|request: Request<Incoming>| {
        let path = request.uri().path();
        let (is_health, surface) = (matches!(path, "/livez" | "/readyz"), Surface::of(path));
        let answer = is_health.then(|| web.call(request));
        async move {
            let mut answer = match answer {
                Some(answer) => match answer.await {
                    Ok(answer) => answer,
                },
                None => surface.refuse(Problem::unavailable(
                    "As many connections as this gateway takes are open and at work; try again in a moment.",
                )),
            };
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            Ok::<_, Infallible>(answer)
        }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEALTH_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

/// Asks the client to come back by another connection, which leads to another replica, once this one is leaving.
fn finish(mut answer: Response<Body>, app: &App) -> Response<Body> {
    if app.leaving.is_cancelled() {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// An answer's body, and that its connection is at work until its end.
struct Answering {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
