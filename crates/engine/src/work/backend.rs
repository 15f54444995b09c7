//! Tollway's apalis backend: a channel that the claimer feeds. Leases, heartbeats and acknowledgements are the engine's own;
//! its layer sees to it that a request whose handler panicked is settled all the same.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll, ready},
};

use apalis_core::{
    backend::{Backend, BackendConfig, finalize::Ephemeral},
    error::BoxDynError,
    task::{Task, task_id::RandomId},
    worker::context::WorkerContext,
};
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service};

use super::handle;
use crate::{Engine, claim::Request};

pub struct Leases {
    work: mpsc::Receiver<Arc<Request>>,
    engine: Option<Arc<Engine>>,
    /// Told when the claimer has ended and everything that it handed over was taken.
    exhausted: CancellationToken,
}

impl Leases {
    pub(super) fn new(work: mpsc::Receiver<Arc<Request>>, engine: Arc<Engine>, exhausted: CancellationToken) -> Self {
        Self { work, engine: Some(engine), exhausted }
    }

    /// One that never gives anything.
    pub(super) fn ended() -> Self {
        Self { work: mpsc::channel(1).1, engine: None, exhausted: CancellationToken::new() }
    }
}

impl Backend for Leases {
    type Task = Task<Arc<Request>>;
    type Error = Infallible;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, _: &WorkerContext) -> Poll<Option<Result<Self::Task, Infallible>>> {
        let request = ready!(self.work.poll_recv(cx));
        if request.is_none() {
            self.exhausted.cancel();
        }
        Poll::Ready(request.map(|request| Ok(Task::new(request))))
    }

    fn poll_close(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for Leases {
    type Args = Arc<Request>;
    type Id = RandomId;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = SettlePanics;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> SettlePanics {
        SettlePanics(self.engine.clone())
    }
}

/// Settles a request whose handler ended in an error, which only a panic makes it do.
#[derive(Clone)]
pub struct SettlePanics(Option<Arc<Engine>>);

impl<S> Layer<S> for SettlePanics {
    type Service = Settling<S>;

    fn layer(&self, inner: S) -> Settling<S> {
        Settling { inner, engine: self.0.clone() }
    }
}

#[derive(Clone)]
pub struct Settling<S> {
    inner: S,
    engine: Option<Arc<Engine>>,
}

impl<S> Service<Task<Arc<Request>>> for Settling<S>
where
    S: Service<Task<Arc<Request>>, Response = ()>,
    S::Error: Into<BoxDynError>,
    S::Future: Send + 'static,
{
    type Response = ();
    type Error = BoxDynError;
    type Future = BoxFuture<'static, Result<(), BoxDynError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxDynError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, task: Task<Arc<Request>>) -> Self::Future {
        let request = Arc::clone(&task.args);
        let engine = self.engine.clone();
        let running = self.inner.call(task);
        Box::pin(async move {
            if running.await.is_err()
                && let Some(engine) = engine
            {
                handle::settle_panic(&engine, &request).await;
            }
            Ok(())
        })
    }
}
