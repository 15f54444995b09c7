//! One provider call: the only place from which a request leaves.

use std::{sync::Arc, time::Instant};

use domain::{AttemptId, Endpoint, catalog::ProviderKind};
use providers::{Answer, AnswerStream, Call, CallError, HttpClients, Provider};

use crate::{Engine, catalog::ActiveDeployment};

/// The providers' wire formats, made once for the process.
pub struct Providers {
    openai: Arc<dyn Provider>,
}

impl Providers {
    pub fn new(http: &HttpClients) -> Self {
        Self::of(providers::provider(ProviderKind::Openai, http))
    }

    /// With what speaks OpenAI's format given: a benchmark's calls need not leave the process.
    pub fn of(openai: Arc<dyn Provider>) -> Self {
        Self { openai }
    }

    fn speaking(&self, kind: ProviderKind) -> &dyn Provider {
        match kind {
            ProviderKind::Openai => self.openai.as_ref(),
        }
    }
}

/// When a call was made and how it ended, by the local clock.
#[derive(Debug)]
pub struct Outcome {
    pub started: Instant,
    pub ended: Instant,
    pub result: Result<Answer, CallError>,
}

/// Calls one deployment and takes note of how it fared. Never retries.
pub async fn once(
    engine: &Engine,
    deployment: &ActiveDeployment,
    endpoint: Endpoint,
    body: &str,
    attempt_id: AttemptId,
) -> Outcome {
    let started = Instant::now();
    let call = Call { endpoint, body, attempt_id };
    let result = engine.providers.speaking(deployment.spec.kind).call(&deployment.target, &call).await;
    if result.is_ok() {
        engine.health.succeeded(&deployment.name);
    }
    Outcome { started, ended: Instant::now(), result }
}

/// The same, for an answer that comes in pieces.
pub async fn stream(
    engine: &Engine,
    deployment: &ActiveDeployment,
    endpoint: Endpoint,
    body: &str,
    attempt_id: AttemptId,
) -> Result<AnswerStream, CallError> {
    engine
        .providers
        .speaking(deployment.spec.kind)
        .stream(&deployment.target, &Call { endpoint, body, attempt_id })
        .await
}
