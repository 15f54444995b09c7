//! `tollway submit`.

mod check;
mod file;
pub mod params;
pub mod upload;

use std::path::PathBuf;

use chrono::Utc;
use clap::Args;
use domain::{After, JobId, Lane, money::Total};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Common, Exit, Failure, Format, Outcome,
    client::Client,
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

/// What is said of the job as a whole. The file's first line, {"job":{…}}, may say it too; flags win.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// prod, standard or bulk; bulk where the key may use it
    #[arg(long, value_name = "LANE")]
    lane: Option<Lane>,
    /// What it is for, such as feature=search; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    tag: Vec<String>,
    #[arg(long, value_name = "NAME", help = "Shown in lists")]
    name: Option<String>,
    /// -100 to 100 among the team's own jobs in the lane; higher is sooner
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i16>,
    /// Expires what is not done by 2026-12-24T18:00:00Z, or in 90m, 6h, 2d
    #[arg(long, value_name = "TIME", value_parser = params::time)]
    deadline: Option<params::Moment>,
    /// Start no earlier than this; a time as for --deadline
    #[arg(long, value_name = "TIME", value_parser = params::time)]
    start_at: Option<params::Moment>,
    /// Start after all of JOB has succeeded; JOB:end: after it has ended
    #[arg(long, value_name = "JOB")]
    after: Option<After>,
    /// Tries of one request that fail by its own errors, 5 when left out
    #[arg(long, value_name = "N")]
    max_attempts: Option<i16>,
    /// Maximum cost in USD; the job pauses when it is reached
    #[arg(long, value_name = "AMOUNT")]
    max_cost: Option<Total>,
    /// Receives a signed POST when the job ends
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,
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
    let query = params::query(&args.job, Utc::now())?;
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
