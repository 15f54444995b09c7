//! The configuration, and the database behind it, for commands that work beside a gateway rather than through it.

use std::time::Duration;

use store::{Pools, connect::PoolSizes};

use super::{Common, Failure, Outcome, exit::Exit};
use crate::{
    config::{self, Config, ConfigError, Loaded},
    paths,
    profile::Profile,
};

/// The file that was named, or the one in this folder. When neither names a database, but the profile names a gateway on
/// this machine, that gateway's.
pub fn load(common: &Common) -> Outcome<Loaded> {
    let found = config::load(common.config.as_deref(), std::env::vars())?;
    let has_database = found.config.database.url.is_some() || std::env::var_os("DATABASE_URL").is_some();
    if common.config.is_some() || has_database {
        return Ok(found);
    }
    let profile =
        Profile::read(&paths::profile()).map_err(|error| Failure::new(Exit::Refused, format_args!("{error:#}")))?;
    match profile.and_then(|profile| profile.config).filter(|path| path.exists()) {
        Some(path) => Ok(config::load(Some(&path), std::env::vars())?),
        None => Ok(found),
    }
}

/// A few connections, made when they are needed.
pub fn connect(config: &Config) -> Outcome<Pools> {
    use secrecy::ExposeSecret;
    let url = config.database_url()?;
    // Nobody waits behind these: they may take as long as they need.
    let sizes = PoolSizes { api: 4, work: 4, statement_timeout: Duration::from_secs(3600) };
    store::connect(url.expose_secret(), sizes).map_err(|_| {
        // sqlx's words may repeat the URL, and with it the password.
        Failure::from(ConfigError::BadDatabaseUrl)
    })
}
