//! Who submits what, and what submitting needs.

use std::sync::Arc;

use admission::{budgets::Budgets, catalog::ActiveCatalog, clock::Clock, limits::Limiter};
use domain::{JobId, Lane, job::JobParams};
use secrecy::ExposeSecret;
use store::PgPool;

use super::{Format, timed::Timed, upload_permits::UploadPermit};
use crate::{Engine, Settings};

/// Who submits.
#[derive(Debug, Clone, Copy)]
pub struct Submitter<'a> {
    pub team_id: i64,
    pub key_id: &'a str,
    /// Those the key may use, its default first.
    pub lanes: &'a [Lane],
}

/// What is submitted.
pub struct Submission<R> {
    /// From query and header. They go before what the upload says of its job.
    pub params: JobParams,
    pub idempotency_key: Option<String>,
    pub format: Format,
    /// Plain or gzip.
    pub body: R,
}

impl<R> Submission<R> {
    /// With a body that must come in as fast as its place asks for.
    pub(crate) fn watched_by(self, place: &UploadPermit) -> Submission<Timed<R>> {
        let Self { params, idempotency_key, format, body } = self;
        Submission { params, idempotency_key, format, body: place.watch(body) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    pub job_id: JobId,
    /// Its requests.
    pub accepted: i64,
    /// The same was submitted before under the same idempotency key; nothing new was made.
    pub replayed: bool,
}

/// What submitting needs of the engine.
pub struct Intake<'e> {
    pub pool: &'e PgPool,
    pub catalog: Arc<ActiveCatalog>,
    pub clock: &'e Clock,
    pub budgets: &'e Budgets,
    pub limits: &'e Limiter,
    pub worker_id: i64,
    pub settings: &'e Settings,
    /// Webhooks' URLs are sealed under it.
    pub pepper: &'e [u8],
}

impl<'e> From<&'e Engine> for Intake<'e> {
    fn from(engine: &'e Engine) -> Self {
        Self {
            pool: &engine.pools.api,
            catalog: engine.catalog.get(),
            clock: &engine.clock,
            budgets: &engine.control.budgets,
            limits: &engine.control.limits,
            worker_id: engine.worker_id,
            settings: &engine.settings,
            pepper: engine.pepper.expose_secret(),
        }
    }
}
