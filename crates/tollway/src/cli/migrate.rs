//! `tollway migrate`.

use clap::Args;
use serde_json::json;

use super::{
    Common, Exit, Failure, Format, Outcome, local,
    output::{self, line},
};

/// Safe to run while gateways of this and the last version run, and to run again.
#[derive(Debug, Args)]
pub struct Migrate {}

pub async fn run(_: Migrate, common: &Common) -> Outcome {
    let config = local::load(common)?.config;
    let pools = local::connect(&config)?;
    // Says first whether the database answers at all.
    drop(pools.api.acquire().await?);
    store::migrate(&pools.api).await.map_err(|error| Failure::new(Exit::Failed, format_args!("migration: {error}")))?;
    match common.output {
        Format::Json => output::json(&json!({ "migrated": true }))?,
        _ => line("The database's schema is up to date.")?,
    }
    Ok(Exit::Done)
}
