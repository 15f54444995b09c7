//! Runs claimed requests under apalis, each in a task of its own, and settles every one of them.

mod backend;
mod handle;

use std::sync::Arc;

use apalis::{layers::WorkerBuilderExt, prelude::*};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use backend::Leases;

use crate::{Engine, claim::Request};

/// The worker that runs what the claimer hands over. Registered with the binary's `Monitor`.
///
/// Handlers run in tasks of their own: without `parallelize` all of them would share one. A handler makes a panic a failed try of its
/// request; without `catch_panic` one of the handler's own would end the worker.
///
/// Ends when the claimer has and everything that was handed over is done.
pub async fn run(engine: Arc<Engine>, work: mpsc::Receiver<Arc<Request>>) -> Result<(), MonitorError> {
    // apalis ends a worker when it is told to, not when its backend has nothing more to give.
    let exhausted = CancellationToken::new();
    let backend = Leases::new(work, exhausted.clone());
    let name = format!("tollway-{}", engine.worker_id);
    // The monitor builds a worker once; it would build another only after an error, and the backend gives none.
    let backend = std::sync::Mutex::new(Some(backend));
    Monitor::new()
        .register(move |_| {
            let backend = backend.lock().ok().and_then(|mut backend| backend.take()).unwrap_or_else(Leases::ended);
            WorkerBuilder::new(name.as_str())
                .backend(backend)
                .data(Arc::clone(&engine))
                .catch_panic()
                .parallelize(tokio::spawn)
                .build(handle::handle)
        })
        .run_with_signal(async move {
            exhausted.cancelled().await;
            Ok(())
        })
        .await
}
