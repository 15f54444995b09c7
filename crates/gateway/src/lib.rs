//! All inbound HTTP of Tollway. `router.rs` lists every route; `api/` has one module per noun of the native API, `openai/`
//! one per endpoint of the compatible one. Handlers translate; the engine decides.

pub mod router;
pub mod serve;

mod access;
mod auth;
mod connections;
mod drain;
mod entry;
mod input;
mod page;
mod peer;
mod problem;
mod standing;
mod suggest;
mod surface;

mod health;
mod openapi;
pub mod telemetry;

mod api;
mod openai;
mod report_process;
mod spool;

use std::{ops::Deref, sync::Arc, time::Duration};

use engine::Engine;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

pub use report_process::Children;
pub use router::router;
pub use serve::serve;

use self::health::Readiness;

#[cfg(test)]
mod tests;

/// What handlers share. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Shared>);

pub struct Shared {
    pub engine: Arc<Engine>,
    pub metrics: PrometheusHandle,
    pub children: Children,
    /// Cancelled when a shutdown begins: readiness says no, and clients are asked to close their connections.
    pub leaving: CancellationToken,
    /// Cancelled when load balancers have had time to notice: nothing new is taken, endless answers end.
    pub stopping: CancellationToken,
    /// Cancelled when the drain is over: answers that still run are told so and end.
    pub cutting: CancellationToken,
    pub(crate) readiness: Readiness,
}

impl App {
    pub fn new(engine: Arc<Engine>, metrics: PrometheusHandle, children: Children) -> Self {
        Self(Arc::new(Shared {
            engine,
            metrics,
            children,
            leaving: CancellationToken::new(),
            stopping: CancellationToken::new(),
            cutting: CancellationToken::new(),
            readiness: Readiness::default(),
        }))
    }

    /// How long answers in flight may continue after a shutdown began.
    pub fn drain(&self) -> Duration {
        self.engine.settings.drain
    }
}

impl Deref for App {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}
