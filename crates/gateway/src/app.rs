//! What handlers share.

use std::{ops::Deref, sync::Arc, time::Duration};

use engine::Engine;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

use crate::{health::Readiness, report_process::Children};

/// Cheap to clone.
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
