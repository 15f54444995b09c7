//! `tollway serve`.

use clap::Args;
use engine::Roles;

use super::{Common, Exit, Failure, Outcome};
use crate::{
    config,
    reload::Reload,
    serve::{Serving, run as run_gateway},
    shutdown,
};

#[derive(Debug, Args)]
pub struct Serve {
    /// What this process does
    #[arg(long, value_name = "ROLES", default_value_t = Roles::ALL)]
    role: Roles,
}

pub async fn run(args: Serve, common: &Common) -> Outcome {
    let loaded = config::load(common.config.as_deref(), std::env::vars())?;
    let (stop, hangup) = shutdown::but_for_hangup()?;
    let reload = Some(Reload { hangup, given: common.config.clone() });
    let serving = Serving { config: loaded.config, roles: args.role, config_file: loaded.file, reload };
    run_gateway(serving, stop, |address| {
        tracing::info!(%address, roles = %args.role, "Tollway is ready");
        Ok(())
    })
    .await
    .map_err(|error| Failure::new(Exit::Failed, format_args!("{error:#}")))?;
    Ok(Exit::Done)
}
