//! `tollway submit`.

mod check;
mod file;
pub mod upload;

use std::path::PathBuf;

use chrono::Utc;
use clap::Args;
use domain::{JobId, Lane};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Common, Exit, Failure, Format, Outcome,
    client::Client,
    job_params::{self, JobArgs},
    jobs::watch,
    output::{self, count, line, note},
};

#[derive(Debug, Args)]
pub struct Submit {
    /// One request a line, as in OpenAI's batches; gzip is recognised; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    job: JobArgs,
    /// The same key again gives the same job, not a second one
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Compress on the way
    #[arg(long)]
    gzip: bool,
    /// Check every line and the maximum cost, and submit nothing
    #[arg(long, conflicts_with = "watch")]
    dry_run: bool,
    /// Follow the job to its end
    #[arg(long)]
    watch: bool,
}

impl Submit {
    fn upload(&self) -> upload::Upload<'_> {
        upload::Upload {
            file: &self.file,
            to: "api/v1/jobs",
            gzip: self.gzip,
            idempotency_key: self.idempotency_key.as_deref().filter(|_| !self.dry_run),
        }
    }
}

/// The part of the answer that is present even if the gateway could not read the new job.
#[derive(Deserialize)]
struct Accepted {
    id: JobId,
    counts: AcceptedCounts,
    lane: Option<Lane>,
}

#[derive(Deserialize)]
struct AcceptedCounts {
    accepted: i64,
}

pub async fn run(args: Submit, common: &Common) -> Outcome {
    let query = job_params::query(&args.job, Utc::now())?;
    if args.dry_run {
        return check::run(&args, query, common).await;
    }
    let client = Client::find()?;
    let answer: Value = upload::send(&client, args.upload(), &query).await?;
    let Accepted { id, counts, lane } = serde_json::from_value(answer.clone())
        .map_err(|error| Failure::new(Exit::Failed, format_args!("the gateway's answer cannot be read: {error}")))?;
    match common.output {
        Format::Json if !args.watch => output::json(&answer)?,
        Format::Json => {}
        _ => {
            let lane = lane.map_or_else(String::new, |lane| format!(" in lane {lane}"));
            line(format!("{id}: {} requests{lane}", count(counts.accepted)))?;
            if !args.watch {
                note(format_args!("Follow it: tollway jobs watch {id}"));
            }
        }
    }
    if args.watch { watch::run(&client, id, common).await } else { Ok(Exit::Done) }
}
