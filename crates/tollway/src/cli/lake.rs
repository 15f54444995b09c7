//! `tollway lake …`. Works on database and lake directly, beside the gateways that also do.

mod vectors;

use chrono::Utc;
use clap::Subcommand;
use domain::JobId;
use lake::{LakeError, LakeStore, Verification};

use super::{
    Common, Exit, Failure, Format, Outcome, local,
    output::{self, count, line},
};

/// Differences beyond these are counted.
const SHOWN: usize = 20;

#[derive(Debug, Subcommand)]
pub enum Lake {
    /// Export new ledger rows to Parquet; gateways do this on their own
    Export {
        /// Export the whole ledger again, into a lake that lost its files
        #[arg(long)]
        again: bool,
    },
    /// Compact finished days into their final files; gateways do this on their own
    Compact,
    /// Prove that lake and ledger are equal, row for row and pico-dollar for pico-dollar
    Verify,
    /// Print the embedding vectors of a job as Parquet; `jobs results --format parquet` asks a gateway for it
    #[command(hide = true)]
    Vectors {
        #[arg(long)]
        job: JobId,
    },
}

pub async fn run(args: Lake, common: &Common) -> Outcome {
    let config = local::load(common)?.config;
    let pools = local::connect(&config)?;
    if let Lake::Vectors { job } = args {
        return vectors::print(&pools, job).await;
    }
    let store = LakeStore::open(&config.lake_url()).map_err(failed)?;
    let is_json = common.output == Format::Json;
    match args {
        Lake::Export { again } => {
            if again {
                lake::republish(&pools.work).await.map_err(failed)?;
            }
            let done = lake::export(&pools.work, &store, Utc::now()).await.map_err(failed)?;
            if is_json {
                output::json(&done)?;
            } else {
                let (rows, segments) = (count(done.rows as i64), count(done.segments as i64));
                line(format!("{rows} rows in {segments} segments written to {}", store.url()))?;
            }
        }
        Lake::Compact => {
            let done = lake::compact(&pools.work, &store, Utc::now()).await.map_err(failed)?;
            if is_json {
                output::json(&done)?;
            } else {
                let sealed =
                    done.sealed_through.map_or_else(|| "no day".to_owned(), |day| format!("every day up to {day}"));
                line(format!(
                    "{} rows sorted into {} files; {} replaced files removed; {sealed} is sealed",
                    count(done.rows as i64),
                    count(done.files as i64),
                    count(done.removed as i64)
                ))?;
            }
        }
        Lake::Verify => {
            let found = lake::verify(&pools.work, &store).await.map_err(failed)?;
            if is_json {
                output::json(&found)?;
            } else {
                show(&found, store.url())?;
            }
            if !found.holds() {
                return Ok(Exit::Failed);
            }
        }
        Lake::Vectors { .. } => {}
    }
    Ok(Exit::Done)
}

fn show(found: &Verification, place: &str) -> std::io::Result<()> {
    for difference in found.differences.iter().take(SHOWN) {
        line(difference.to_string())?;
    }
    if found.differences.len() > SHOWN {
        line(format!("… and {} more differences", count((found.differences.len() - SHOWN) as i64)))?;
    }
    let waiting = match found.waiting {
        0 => String::new(),
        n => format!("; {} newer rows are not exported yet", count(n as i64)),
    };
    if found.holds() {
        return line(format!(
            "Lake and ledger are equal: {} rows, ${}, {} days in {} files at {place}{waiting}",
            count(found.lake.rows as i64),
            found.lake.cost_usd,
            count(found.days as i64),
            count(found.files as i64),
        ));
    }
    line(format!(
        "NOT equal: the ledger has {} rows and ${}, the lake at {place} has {} rows and ${}{waiting}",
        count(found.ledger.rows as i64),
        found.ledger.cost_usd,
        count(found.lake.rows as i64),
        found.lake.cost_usd,
    ))
}

fn failed(error: LakeError) -> Failure {
    let exit = match &error {
        LakeError::Busy | LakeError::Contended(_) | LakeError::Storage(_) => Exit::Unavailable,
        LakeError::BadUrl { .. } => Exit::Refused,
        _ => Exit::Failed,
    };
    Failure::new(exit, error)
}
