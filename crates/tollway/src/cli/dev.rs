//! `tollway dev`.

mod run;

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

use super::{Common, Outcome};

/// Embedded PostgreSQL (unless a database is configured), a simulated provider (unless one is configured), the gateway
/// with all its roles on one port, and an admin key in the profile. Not for production.
#[derive(Debug, Args)]
pub struct Dev {
    /// Instead of [server] listen; port 0 takes any that is free
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// For database and lake; TOLLWAY_DATA or /var/lib/tollway for root
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where initdb, pg_ctl and postgres are; searched for when left out
    #[arg(long, value_name = "DIR")]
    pub postgres_bin: Option<PathBuf>,
    /// How the simulated provider behaves, see `tollway simulate --behaviour`
    #[arg(long, value_name = "FILE")]
    pub simulator: Option<PathBuf>,
}

pub async fn run(args: Dev, common: &Common) -> Outcome {
    run::run(args, common).await
}
