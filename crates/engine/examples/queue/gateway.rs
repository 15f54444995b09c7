//! A gateway's engine with one route, `nothing`, and one team.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use admission::catalog::ActiveCatalog;
use domain::{Catalog, ids::time_id};
use engine::{Engine, Settings, Start, call::Providers, config, intents::IntentQueue, settle::Queue};
use secrecy::SecretBox;
use store::connect::PoolSizes;

use crate::{Failure, nothing::Nothing};

const CATALOG: &str = r#"{
    "deployments": {"nothing": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "nothing"}},
    "routes": {"nothing": {"deployments": ["nothing"]}},
    "prices": [{"provider": "openai", "model": "nothing", "free": true}]
}"#;

pub async fn build(url: &str, slots: usize) -> Result<(Arc<Engine>, i64, IntentQueue, Queue), Failure> {
    let settings = Settings { slots, lease: Duration::from_secs(30), ..Settings::default() };
    let pools = store::connect(url, PoolSizes::default())?;
    store::migrate(&pools.work).await?;
    let catalog: Catalog = serde_json::from_str(CATALOG)?;
    let mut tx = pools.work.begin().await?;
    config::apply_catalog(&mut tx, &catalog, "bench").await?;
    store::retention::make_partitions(&mut tx).await?;
    let team = store::team::create(&mut tx, "bench", 1).await?.ok_or("the database is not empty")?;
    let (worker_id, asked) = (time_id(store::worker::database_now(&mut tx).await?), Instant::now());
    let roles = vec!["worker".to_owned()];
    let now = store::worker::register(&mut tx, worker_id, "bench", &roles, slots, settings.lease).await?;
    tx.commit().await?;
    let (engine, intents, settlements) = Engine::new(Start {
        pools,
        worker_id,
        roles,
        settings,
        asked,
        now,
        catalog: ActiveCatalog::build(1, catalog)?,
        providers: Providers::of(Arc::new(Nothing)),
        pepper: Arc::new(SecretBox::new(Box::new([0; 32]))),
    });
    Ok((Arc::new(engine), team.team_id, intents, settlements))
}
