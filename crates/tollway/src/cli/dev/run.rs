//! `tollway dev`: everything that a developer would have to set up by hand, put together and run as `serve` runs it.

mod banner;
mod simulated;

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use anyhow::Context;
use domain::Role;
use engine::Roles;
use secrecy::{ExposeSecret, SecretBox};
use store::Pools;

use super::Dev;
use crate::{
    cli::{Common, Exit, Failure, Format, Outcome, first_admin_key, note},
    config::{self, Config, ConfigError, SecretRef},
    embedded::{self, Cluster, Origin},
    paths,
    profile::{MADE_BY_DEV, Profile, Secret},
    serve::{self, Serving},
    shutdown,
};

const TEAM: &str = "dev";

/// Where things are, for the banner.
struct Setup {
    data: PathBuf,
    database: Database,
    lake: String,
    /// The simulator's URL.
    simulator: Option<String>,
    models: Vec<String>,
    profile: PathBuf,
    format: Format,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Database {
    Embedded(Origin),
    /// Its place, without user and password.
    Configured(String),
}

pub async fn run(args: Dev, common: &Common) -> Outcome {
    let stop = shutdown::on_signal()?;
    let mut config = config::load(common.config.as_deref(), std::env::vars())?.config;
    if let Some(listen) = args.listen {
        config.server.listen = listen;
    }
    // Nobody balances load between this process and others, and somebody waits for its end.
    config.server.shutdown_delay_s = 0;
    check_port(config.server.listen)?;
    let data = match &args.data {
        Some(dir) => std::path::absolute(dir)?,
        None => paths::data_dir(),
    };
    embedded::make_root(&data).map_err(refused)?;
    let cluster = start_database(&mut config, &data, args.postgres_bin.as_deref()).await?;
    let database = match &cluster {
        Some(cluster) => Database::Embedded(cluster.origin()),
        None => Database::Configured(place_of(&config)?),
    };
    let ended = async {
        if stop.is_cancelled() {
            return Ok(());
        }
        let pepper = prepare_pepper(&mut config, &data)?;
        config.lake.url.get_or_insert_with(|| data.join("lake").display().to_string());
        let simulator = simulated::start(&mut config, args.simulator.as_deref(), stop.clone()).await?;
        let config_file = write_config(&config, &data)?;
        let key = prepare_key(&config, &pepper, &data).await?;
        let setup = Setup {
            database,
            lake: config.lake_url(),
            models: config.routes.keys().cloned().collect(),
            simulator,
            profile: paths::profile(),
            format: common.output,
            data: data.clone(),
        };
        let serving = Serving { config, roles: Roles::ALL, config_file: Some(config_file.clone()), reload: None };
        serve::run(serving, stop.clone(), move |address| welcome(setup, address, key, config_file)).await?;
        Ok::<_, Failure>(())
    }
    .await;
    // Also after an error: what we started, we end.
    stop.cancel();
    if let Some(cluster) = cluster {
        cluster.stop().await.map_err(refused)?;
    }
    ended.map(|()| Exit::Done)
}

/// Told now, rather than after the database was started.
fn check_port(listen: SocketAddr) -> Outcome<()> {
    match TcpListener::bind(listen) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            Err(Failure::new(Exit::Refused, format_args!("{listen} is in use, maybe by another `tollway dev`"))
                .hint("Stop that one, or choose another address with --listen; port 0 takes any that is free."))
        }
        Err(error) => Err(Failure::new(Exit::Refused, format_args!("cannot listen on {listen}: {error}"))),
    }
}

/// Unless one is configured.
async fn start_database(config: &mut Config, data: &Path, bin_dir: Option<&Path>) -> Outcome<Option<Cluster>> {
    if config.database.url.is_some() || std::env::var_os("DATABASE_URL").is_some() {
        return Ok(None);
    }
    note("Starting PostgreSQL …");
    let cluster = embedded::start(data, bin_dir).await.map_err(refused)?;
    // Other commands find the database through this file; its URL holds the password.
    let url = data.join("database-url");
    paths::write_private(&url, cluster.url()).with_context(|| format!("cannot write {}", url.display()))?;
    config.database.url = Some(SecretRef::File(url));
    Ok(Some(cluster))
}

/// Which database it is, so that nobody uses another project's by accident.
fn place_of(config: &Config) -> Outcome<String> {
    let url = config.database_url()?;
    let url = reqwest::Url::parse(url.expose_secret()).map_err(|_| ConfigError::BadDatabaseUrl)?;
    let by = if config.database.url.is_some() { "[database] url" } else { "DATABASE_URL" };
    let name = url.path().trim_start_matches('/');
    Ok(format!("{name} at {}, by {by}", url.host_str().unwrap_or("this machine")))
}

/// One of our own, unless one is configured.
fn prepare_pepper(config: &mut Config, data: &Path) -> Outcome<SecretBox<[u8; 32]>> {
    if config.secrets.pepper.is_none() {
        let path = data.join("pepper");
        if !path.exists() {
            let digits: String = rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect();
            paths::write_private(&path, &digits).with_context(|| format!("cannot write {}", path.display()))?;
        }
        config.secrets.pepper = Some(SecretRef::File(path));
    }
    Ok(config.pepper()?)
}

/// The whole configuration as it came to be, for child processes and for other commands on this machine. It holds
/// references to secrets, no secrets.
fn write_config(config: &Config, data: &Path) -> Outcome<PathBuf> {
    let path = data.join("dev.toml");
    let text = toml::to_string(config).context("the configuration cannot be written down")?;
    let text = format!("# Written by `tollway dev` at every start; changes here are lost.\n{text}");
    paths::write_private(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// The admin key of the last start, if this database knows it; else a new one.
async fn prepare_key(config: &Config, pepper: &SecretBox<[u8; 32]>, data: &Path) -> Outcome<Secret> {
    let url = config.database_url()?;
    let pools = store::connect(url.expose_secret(), config.pool_sizes())?;
    store::migrate(&pools.api).await.map_err(|error| Failure::new(Exit::Failed, format_args!("migration: {error}")))?;
    let path = data.join("admin-key");
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let key = match is_known(&pools, pepper, kept.trim()).await? {
        true => Secret(kept.trim().to_owned()),
        false => {
            let minted = first_admin_key(&pools, pepper, TEAM, MADE_BY_DEV).await?;
            let key = Secret(minted.key.expose().to_owned());
            paths::write_private(&path, &key.0).with_context(|| format!("cannot write {}", path.display()))?;
            key
        }
    };
    pools.api.close().await;
    Ok(key)
}

async fn is_known(pools: &Pools, pepper: &SecretBox<[u8; 32]>, key: &str) -> Outcome<bool> {
    let Ok(parsed) = engine::admit::ParsedKey::parse(key) else { return Ok(false) };
    let mac = parsed.mac(pepper.expose_secret());
    let mut conn = pools.api.acquire().await?;
    let known = store::key::changed_since(&mut conn, None).await?;
    Ok(known
        .iter()
        .any(|row| row.key_id.as_bytes() == parsed.id() && row.mac == mac && row.role == Role::Admin.as_str()))
}

/// Requests are taken: writes the profile, and tells the developer.
fn welcome(setup: Setup, address: SocketAddr, key: Secret, config_file: PathBuf) -> anyhow::Result<()> {
    let profile = Profile {
        url: format!("http://{address}"),
        api_key: key,
        config: Some(config_file),
        made_by: Some(MADE_BY_DEV.to_owned()),
    };
    // A profile that somebody wrote by hand stays; ours then stands in our own folder.
    let is_free = !matches!(Profile::read(&setup.profile), Ok(Some(other)) if !other.is_of_dev());
    let path = if is_free { setup.profile.clone() } else { setup.data.join("profile.toml") };
    profile.write(&path)?;
    let sample = match &setup.simulator {
        Some(_) => Some(simulated::write_sample(&setup.data)?),
        None => None,
    };
    banner::print(&setup, &profile.url, &path, is_free, sample.as_deref())?;
    Ok(())
}

fn refused(error: anyhow::Error) -> Failure {
    Failure::new(Exit::Refused, format_args!("{error:#}"))
}
