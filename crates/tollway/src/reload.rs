//! SIGHUP: the configuration is read again, and what it declares is applied as at a start.

use std::path::PathBuf;

use engine::{
    Engine,
    config::{changed, reload as apply},
};
use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::{self, Config};

/// Sections of one process, which it takes up when it starts; replicas agree on the others through the database.
const OF_THE_PROCESS: [&str; 8] =
    ["server", "database", "worker", "lake", "retention", "webhooks", "secrets", "alerts"];

pub struct Reload {
    pub hangup: Signal,
    /// `--config` or `TOLLWAY_CONFIG`, as at the start.
    pub given: Option<PathBuf>,
}

/// Until `stop` is cancelled. `started`: what the process runs with.
pub async fn run(mut reload: Reload, engine: &Engine, started: Config, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(()) = reload.hangup.recv() => {}
        }
        match read_again(&reload, engine, &started).await {
            Ok(version) => info!(version, "The configuration was read again"),
            Err(error) => {
                error!(error = format!("{error:#}"), "The configuration was not read again; nothing is changed");
            }
        }
    }
}

async fn read_again(reload: &Reload, engine: &Engine, started: &Config) -> anyhow::Result<i64> {
    let config = config::load(reload.given.as_deref(), std::env::vars())?.config;
    let version = apply(engine, &config.catalog()).await?;
    for setting in takes_a_restart(started, &config) {
        warn!(setting, "A setting was changed that takes a restart; going on with the one before");
    }
    Ok(version)
}

fn takes_a_restart(started: &Config, now: &Config) -> Vec<String> {
    let is_ours = |name: &String| OF_THE_PROCESS.contains(&name.split('.').next().unwrap_or_default());
    changed(started, now).into_iter().filter(is_ours).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_process_took_up_takes_a_restart() {
        let (before, mut after) = (Config::default(), Config::default());
        after.worker.slots += 1;
        after.lake.url = Some("s3://b".to_owned());
        after.quotas.pending_gb += 1;
        after.lanes = domain::Catalog::default_lanes();
        assert_eq!(takes_a_restart(&before, &after), ["lake.url", "worker.slots"]);
    }
}
