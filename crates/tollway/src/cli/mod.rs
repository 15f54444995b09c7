//! The command line. Each command is a file: its arguments, what it asks, how it shows the answer.

mod client;
mod exit;
mod failure;
mod local;
mod output;

mod check_config;
pub mod dev;
mod migrate;
mod serve;

mod alerts;
mod audit;
mod bootstrap;
mod budgets;
mod deployments;
mod job_params;
mod jobs;
mod keys;
mod lake;
mod lanes;
mod ledger;
mod limits;
mod quote;
mod report;
mod schedules;
mod simulate;
mod submit;
mod teams;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand, error::ErrorKind};

pub use bootstrap::first_admin_key;
pub use exit::Exit;
pub use failure::{Failure, Outcome};
pub use output::{Format, line, note};
pub use simulate::read_behaviour;

use crate::logging::{self, Verbosity};

/// Tollway: a job gateway for LLM calls.
#[derive(Debug, Parser)]
#[command(name = "tollway", version, after_help = exit::HELP, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Common {
    /// The configuration; else TOLLWAY_CONFIG, ./tollway.toml
    #[arg(long, global = true, value_name = "FILE", env = "TOLLWAY_CONFIG", hide_env = true)]
    pub config: Option<PathBuf>,
    /// human or json; reports also csv, parquet
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        value_enum,
        default_value = "human",
        hide_possible_values = true
    )]
    pub output: Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything on this machine: database, simulator, gateway
    Dev(dev::Dev),
    /// Run the gateway
    Serve(serve::Serve),
    /// Bring the database's schema up to date
    Migrate(migrate::Migrate),
    /// Check the configuration and summarise it
    CheckConfig(check_config::CheckConfig),
    /// Submit a file of requests as one job
    Submit(submit::Submit),
    /// Estimate the cost and the duration of a file of requests
    Quote(quote::QuoteFile),
    /// Manage jobs
    #[command(subcommand)]
    Jobs(jobs::Jobs),
    /// Manage recurring jobs
    #[command(subcommand)]
    Schedules(schedules::Schedules),
    /// Manage lanes; show what waits in them and why
    Lanes(lanes::Lanes),
    /// Manage limits and quotas
    Limits(limits::Limits),
    /// Show the state of deployments, take one out of service or put it back
    Deployments(deployments::Deployments),
    /// Manage budgets; show what is spent and what is left
    Budgets(budgets::Budgets),
    /// List alerts, and send a test alert
    Alerts(alerts::Alerts),
    /// Manage teams
    #[command(subcommand)]
    Teams(teams::Teams),
    /// Manage API keys
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Show who changed lanes, limits, keys, teams, schedules and jobs
    Audit(audit::Audit),
    /// Correct the ledger
    #[command(subcommand)]
    Ledger(ledger::Ledger),
    /// Move the ledger to Parquet and prove it complete
    #[command(subcommand)]
    Lake(lake::Lake),
    /// Report from Parquet
    #[command(subcommand)]
    Report(report::Report),
    /// Run a provider that answers, waits and fails on command
    Simulate(simulate::Simulate),
}

pub async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, also when nobody reads them to the end.
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { Exit::Done.into() } else { Exit::Usage.into() };
        }
    };
    let format = cli.common.output;
    match run(cli).await {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if !failure.message.is_empty() {
                note(if format == Format::Json { failure.json() } else { failure.text() });
            }
            failure.exit.into()
        }
    }
}

async fn run(cli: Cli) -> Outcome {
    let Cli { common, command } = cli;
    logging::start(match &command {
        Command::Serve(_) => Verbosity::Operation,
        Command::Dev(_) | Command::Simulate(_) => Verbosity::Warnings,
        _ => Verbosity::Command,
    });
    if matches!(common.output, Format::Csv | Format::Parquet) && !matches!(command, Command::Report(_)) {
        return Err(Failure::usage("only reports come as csv or parquet; choose --output human or json"));
    }
    match command {
        Command::Dev(args) => Box::pin(dev::run(args, &common)).await,
        Command::Serve(args) => Box::pin(serve::run(args, &common)).await,
        Command::Migrate(args) => migrate::run(args, &common).await,
        Command::CheckConfig(args) => Box::pin(check_config::run(args, &common)).await,
        Command::Submit(args) => Box::pin(submit::run(args, &common)).await,
        Command::Quote(args) => Box::pin(quote::run(args, &common)).await,
        Command::Jobs(args) => Box::pin(jobs::run(args, &common)).await,
        Command::Schedules(args) => Box::pin(schedules::run(args, &common)).await,
        Command::Lanes(args) => Box::pin(lanes::run(args, &common)).await,
        Command::Limits(args) => Box::pin(limits::run(args, &common)).await,
        Command::Deployments(args) => Box::pin(deployments::run(args, &common)).await,
        Command::Budgets(args) => Box::pin(budgets::run(args, &common)).await,
        Command::Alerts(args) => Box::pin(alerts::run(args, &common)).await,
        Command::Teams(args) => teams::run(args, &common).await,
        Command::Keys(args) => Box::pin(keys::run(args, &common)).await,
        Command::Audit(args) => audit::run(args, &common).await,
        Command::Ledger(args) => ledger::run(args, &common).await,
        Command::Lake(args) => Box::pin(lake::run(args, &common)).await,
        Command::Report(args) => Box::pin(report::run(args, &common)).await,
        Command::Simulate(args) => simulate::run(args, &common).await,
    }
}

#[cfg(test)]
mod tests;
