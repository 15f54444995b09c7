//! Builds the gateway out of its parts and runs it.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration, time::Instant};

use admission::catalog::ActiveCatalog;
use anyhow::Context;
use domain::ids::time_id;
use engine::{
    Engine, Roles, Running, Settings, Start, call::Providers, config::apply_catalog, host::hostname,
    intents::IntentQueue, settle::Queue,
};
use gateway::{App, Children};
use secrecy::ExposeSecret;
use store::Pools;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    chores,
    config::Config,
    descriptors,
    reload::{self, Reload},
};

/// Reports running at once, and how long one may take.
const REPORTS: usize = 2;
const REPORT_TIMEOUT: Duration = Duration::from_secs(300);
/// How long to wait for a database that is starting or failing over.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(30);

/// What to run, and with what.
pub struct Serving {
    pub config: Config,
    pub roles: Roles,
    /// Handed to child processes as `--config`, so that they find the same database and lake.
    pub config_file: Option<PathBuf>,
    /// The signal to reload the configuration; `None`: it is never reloaded.
    pub reload: Option<Reload>,
}

/// Runs until `stop` is cancelled, then lets running calls end. `started` is told the address once requests are taken.
pub async fn run(
    serving: Serving,
    stop: CancellationToken,
    started: impl FnOnce(SocketAddr) -> anyhow::Result<()> + Send,
) -> anyhow::Result<()> {
    let Serving { config, roles, config_file, reload } = serving;
    let listener = match roles.api {
        true => Some(
            TcpListener::bind(&config.server.listen)
                .await
                .with_context(|| format!("cannot listen on {}", config.server.listen))?,
        ),
        false => None,
    };
    let lake = lake::LakeStore::open(&config.lake_url()).context("cannot open the lake")?;
    let (engine, intents, settlements) = build(&config, roles).await?;

    // In this order they end: callers, claims, calls, settlements.
    let running = Running::start(&engine, roles, intents, settlements);
    let chores =
        roles.maintenance.then(|| tokio::spawn(chores::run(Arc::clone(&engine), lake, running.background.clone())));
    if let Some(reload) = reload {
        let (engine, stop) = (Arc::clone(&engine), stop.clone());
        tokio::spawn(async move { reload::run(reload, &engine, config, stop).await });
    }
    let drain = engine.settings.drain;
    let left = match listener {
        Some(listener) => {
            let app = App::new(Arc::clone(&engine), gateway::telemetry::install()?, children(config_file)?);
            tokio::spawn(gateway::telemetry::keep_up(app.metrics.clone()));
            started(listener.local_addr()?)?;
            let stopped = async {
                stop.cancelled().await;
                running.stop_claiming();
                Instant::now()
            };
            // Callers and calls share the time that they are given to end, which begins when nothing new is taken.
            let ((), stopped) = tokio::join!(gateway::serve(listener, app, stop.clone().cancelled_owned()), stopped);
            (engine.settings.shutdown_delay + drain).saturating_sub(stopped.elapsed())
        }
        None => {
            info!(roles = %roles, "Working, without an API");
            stop.cancelled().await;
            drain
        }
    };
    // Before the place among the workers is given up: a chore that is cut off may leave an upload.
    if let Some(chores) = chores {
        chores.abort();
        let _ = chores.await;
    }
    running.end(&engine, left).await;
    Ok(())
}

fn children(config_file: Option<PathBuf>) -> anyhow::Result<Children> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let first_args = config_file.map_or_else(Vec::new, |file| vec!["--config".into(), file.into()]);
    Ok(Children::new(program, first_args, REPORTS, REPORT_TIMEOUT))
}

/// Connects, migrates, applies the file's catalog and takes a place among the workers.
async fn build(config: &Config, roles: Roles) -> anyhow::Result<(Arc<Engine>, IntentQueue, Queue)> {
    let settings = Settings { alerts: config.receivers()?, ..config.settings() };
    let settings = descriptors::fit(settings, config.pool_sizes());
    let pools =
        store::connect(config.database_url()?.expose_secret(), config.pool_sizes()).context("the database's URL")?;
    wait_for(&pools).await?;
    store::migrate(&pools.work).await.context("cannot bring the schema up to date")?;

    let catalog = config.catalog();
    // Before it becomes the active version for all: a file that cannot be used is refused here.
    ActiveCatalog::build(0, catalog.clone()).context("the configuration cannot be used")?;
    let mut tx = pools.work.begin().await?;
    apply_catalog(&mut tx, &catalog, &hostname()).await.context("cannot apply the configuration")?;
    let active = store::config::load_active(&mut tx).await?.context("no configuration is active")?;
    store::retention::make_partitions(&mut tx).await?;
    tx.commit().await?;
    let active = ActiveCatalog::build(active.version, active.catalog).context("the configuration cannot be used")?;

    let role_names: Vec<String> = roles.to_string().split(',').map(str::to_owned).collect();
    let asked = Instant::now();
    let mut conn = pools.work.acquire().await?;
    let now = store::worker::database_now(&mut conn).await?;
    let worker_id = time_id(now);
    let slots = if roles.worker { settings.slots } else { 0 };
    let host = hostname();
    let now = store::worker::register(&mut conn, worker_id, &host, &role_names, slots, settings.lease).await?;
    drop(conn);

    let (engine, intents, settlements) = Engine::new(Start {
        pools,
        worker_id,
        roles: role_names,
        settings,
        asked,
        now,
        catalog: active,
        providers: Providers::new(&providers::HttpClients::new()),
        pepper: Arc::new(config.pepper()?),
    });
    let engine = Arc::new(engine);
    admission::limits::reload(&engine.control).await?;
    admission::budgets::follow(&engine.control).await?;
    engine.keys.refresh(&engine.pools.work).await?;
    Ok((engine, intents, settlements))
}

async fn wait_for(pools: &Pools) -> anyhow::Result<()> {
    let deadline = Instant::now() + DATABASE_TIMEOUT;
    loop {
        match pools.work.acquire().await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= deadline => return Err(error).context("cannot reach the database"),
            Err(error) => {
                warn!(%error, "Waiting for the database");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}
