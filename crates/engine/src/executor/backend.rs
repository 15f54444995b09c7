//! Tollway's apalis backend: a channel that the claimer feeds. Leases, heartbeats and acknowledgements are the engine's own.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll, ready},
};

use apalis_core::{
    backend::{Backend, BackendConfig, finalize::Ephemeral},
    task::{Task, task_id::RandomId},
    worker::context::WorkerContext,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tower::layer::util::Identity;

use crate::claim::Request;

pub struct Leases {
    work: mpsc::Receiver<Arc<Request>>,
    /// Told when the claimer has ended and everything that it handed over was taken.
    exhausted: CancellationToken,
}

impl Leases {
    pub(super) fn new(work: mpsc::Receiver<Arc<Request>>, exhausted: CancellationToken) -> Self {
        Self { work, exhausted }
    }

    /// One that never gives anything.
    pub(super) fn ended() -> Self {
        Self { work: mpsc::channel(1).1, exhausted: CancellationToken::new() }
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
    type Layer = Identity;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}
