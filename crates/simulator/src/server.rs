//! The listening socket and its connections.
//!
//! hyper without a router on top: a request is matched against a handful of prefixes, and the response's body type is
//! ours, so that a connection can be cut in the middle of it.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::provider;
use crate::reply::{self, Reply};
use crate::sim::Sim;
use crate::steer;
use crate::wire::refusal::Refusal;

/// How long calls in flight may go on after a shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs the simulator until `shutdown` resolves. Calls in flight then get a second to end; the rest is cut.
///
/// # Errors
/// `InvalidInput` when the configuration cannot be used (the text says why), or what opening `journal_path` gave.
pub async fn serve(
    listener: TcpListener,
    config: Config,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let sim = Arc::new(Sim::open(config)?);
    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_connection(sim.clone(), stream, stopping.clone()));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: some connection has to end first.
                    tracing::warn!(%error, "The simulator cannot accept a connection; trying again");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    drop(stop);
    let ended = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, ended).await;
    sim.stop();
    connections.shutdown().await;
    Ok(())
}

async fn serve_connection(sim: Arc<Sim>, stream: TcpStream, mut stopping: watch::Receiver<()>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let sim = sim.clone();
        async move { Ok::<_, Infallible>(route(sim, request).await) }
    });
    let connection = http1::Builder::new()
        // A timer a request costs more than it protects here.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        // An error is a client that left or an answer that was cut; the journal has it.
        _ = connection.as_mut() => return,
        _ = stopping.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

async fn route(sim: Arc<Sim>, request: Request<Incoming>) -> Response<Reply> {
    let path = request.uri().path();
    if let Some(rest) = path.strip_prefix("/v1/") {
        let endpoint = provider::endpoint(rest);
        let deployment = sim.default_deployment();
        return provider::answer(sim, deployment, endpoint, request).await;
    }
    if let Some((name, rest)) = path.strip_prefix("/d/").and_then(|path| path.split_once("/v1/"))
        && let Some(deployment) = sim.deployment(name)
    {
        let endpoint = provider::endpoint(rest);
        return provider::answer(sim, deployment, endpoint, request).await;
    }
    if path.starts_with("/sim/") {
        // Boxed, so that calls do not carry the room for it.
        return Box::pin(steer::handle(sim, request)).await;
    }
    reply::refusal(&Refusal::not_found(path))
}
