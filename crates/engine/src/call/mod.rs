//! One provider call: the only place from which a request leaves.

use std::{sync::Arc, time::Instant};

use admission::{
    catalog::ActiveDeployment,
    limits::{self, Kind},
};
use domain::{AttemptId, Endpoint, ErrorClass, catalog::ProviderKind};
use providers::{Answer, AnswerStream, Call, CallError, HttpClients, Provider};

use crate::Engine;

/// A provider of each kind, made once for the process, at the index that is the kind's number.
pub struct Providers([Arc<dyn Provider>; ProviderKind::ALL.len()]);

impl Providers {
    pub fn new(http: &HttpClients) -> Self {
        Self(ProviderKind::ALL.map(|kind| providers::provider(kind, http)))
    }

    /// One provider for every kind: a benchmark's calls need not leave the process.
    pub fn of(any: Arc<dyn Provider>) -> Self {
        Self(ProviderKind::ALL.map(|_| Arc::clone(&any)))
    }

    fn speaking(&self, kind: ProviderKind) -> &dyn Provider {
        self.0[kind as usize].as_ref()
    }
}

/// Calls one deployment. Never retries.
pub async fn once(
    engine: &Engine,
    deployment: &ActiveDeployment,
    endpoint: Endpoint,
    body: &str,
    attempt_id: AttemptId,
) -> Result<Answer, CallError> {
    let call = Call { endpoint, body, attempt_id };
    let result = engine.providers.speaking(deployment.spec.kind).call(&deployment.target, &call).await;
    keep_pace(engine, deployment, result.as_ref().err());
    result
}

/// The same, for an answer that comes in pieces.
pub async fn stream(
    engine: &Engine,
    deployment: &ActiveDeployment,
    endpoint: Endpoint,
    body: &str,
    attempt_id: AttemptId,
) -> Result<AnswerStream, CallError> {
    let call = Call { endpoint, body, attempt_id };
    let opened = engine.providers.speaking(deployment.spec.kind).stream(&deployment.target, &call).await;
    keep_pace(engine, deployment, opened.as_ref().err());
    opened
}

/// Tells the deployment's pace how it took the call.
fn keep_pace(engine: &Engine, deployment: &ActiveDeployment, error: Option<&CallError>) {
    match error.map(|error| error.class) {
        None => {
            let most = || engine.control.limits.cap(&limits::deployment_scope(&deployment.name), Kind::Slots);
            engine.control.limits.concurrency.answered(&deployment.name, most);
        }
        Some(ErrorClass::Throttled | ErrorClass::Overloaded) => {
            engine.control.limits.concurrency.refused(&deployment.name, Instant::now());
        }
        Some(_) => {}
    }
}
