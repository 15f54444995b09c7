//! An engine on the database of one test, in which nothing runs by itself.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use admission::{catalog::ActiveCatalog, worst_case};
use domain::{AttemptReason, Endpoint, JobId, Lane, LedgerRow, RequestId};
use providers::HttpClients;
use store::{PgPool, Pools};

use crate::{
    Engine, Settings, Start,
    call::Providers,
    intents::IntentQueue,
    meter::{self, Attempt, Subject},
    submit::testing::{WORKER, catalog},
};

/// With the catalog of [`catalog`], a team `t`, whose id is 1, and a lease of this length.
pub async fn engine(pool: &PgPool, lease: Duration) -> (Arc<Engine>, IntentQueue) {
    sqlx::query("insert into team (name, weight) values ('t', 3)").execute(pool).await.unwrap();
    replica(pool, lease, WORKER)
}

/// One of several on the same database; it has no place among the workers yet.
pub fn replica(pool: &PgPool, lease: Duration, worker_id: i64) -> (Arc<Engine>, IntentQueue) {
    let settings = Settings { lease, ..Settings::default() };
    let (engine, intents, _) = Engine::new(Start {
        pools: Pools { api: pool.clone(), work: pool.clone(), intents: pool.clone() },
        worker_id,
        roles: vec!["worker".to_owned()],
        settings,
        asked: Instant::now(),
        now: chrono::Utc::now(),
        catalog: catalog(),
        providers: Providers::new(&HttpClients::new()),
        pepper: Arc::new(secrecy::SecretBox::new(Box::new([0; 32]))),
    });
    (Arc::new(engine), intents)
}

/// The row that a synchronous call of this process leaves before it is made.
pub fn call_row(catalog: &ActiveCatalog, worker_id: i64) -> LedgerRow {
    let deployment = Arc::clone(&catalog.route("chat").unwrap().deployments[0]);
    let now = chrono::Utc::now();
    let subject = Subject {
        request_id: RequestId { job: JobId::new(now), line: 0 }.to_string(),
        job_id: None,
        custom_id: None,
        team: "t".into(),
        tags: Arc::default(),
        key_id: "k".into(),
        lane: Lane::prod(),
        model: "chat".into(),
        submitted_at: now,
        est_in: 10,
        max_out: Some(10),
    };
    let (id, reason) = (uuid::Uuid::now_v7(), AttemptReason::Primary);
    let reserved = worst_case::cost(&deployment, subject.est_in, subject.max_out, now);
    let endpoint = Endpoint::ChatCompletions;
    let attempt = Attempt { id, no: 1, reason, fallback_from: None, deployment, endpoint, reserved_at: now, reserved };
    meter::unknown_row(worker_id, &subject, &attempt, now, now)
}
