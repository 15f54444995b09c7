//! `tollway`, the one binary: the gateway (`serve`, `dev`), what keeps it going (`migrate`, `check-config`, `lake`), and the
//! command line that speaks HTTP with it.

#![warn(clippy::unwrap_used)]

mod chores;
mod cli;
mod config;
mod descriptors;
mod embedded;
mod logging;
mod paths;
mod profile;
mod reload;
mod serve;
mod shutdown;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    // reqwest and sqlx take the process's provider; a second install would only say that there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    cli::main().await
}
