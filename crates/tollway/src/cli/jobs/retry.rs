//! `tollway jobs retry`.

use clap::Args;
use domain::{Job, JobId, JobState, RetryFilter};
use reqwest::Method;

use crate::cli::{
    Common, Exit, Format, Outcome,
    client::Client,
    output::{self, count, line, note},
};

#[derive(Debug, Args)]
pub struct Retry {
    /// A job that has ended
    id: JobId,
    /// Only this error, as in `jobs failures`; may be repeated
    #[arg(long, value_name = "ERROR")]
    error: Vec<String>,
    /// Only requests with this HTTP status; may be repeated
    #[arg(long, value_name = "STATUS")]
    status: Vec<i32>,
    /// Only requests that failed at this deployment; may be repeated
    #[arg(long, value_name = "NAME")]
    deployment: Vec<String>,
    /// Also retry requests that were cancelled or expired
    #[arg(long)]
    unfinished: bool,
    /// The same key gives the same job; without one, the same retry does
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

pub async fn run(client: &Client, args: &Retry, common: &Common) -> Outcome {
    let filter = RetryFilter {
        errors: args.error.clone(),
        statuses: args.status.clone(),
        deployments: args.deployment.clone(),
        unfinished: args.unfinished,
    };
    let mut request = client.request(Method::POST, &format!("api/v1/jobs/{}/retry", args.id)).json(&filter);
    if let Some(key) = &args.idempotency_key {
        request = request.header("idempotency-key", key);
    }
    let job: Job = client.read(request).await?;
    if common.output == Format::Json {
        output::json(&job)?;
        return Ok(Exit::Done);
    }
    if job.state == JobState::Uploading {
        line(format!("{}: its requests are being copied", job.id))?;
    } else {
        line(format!("{}: {} requests in lane {}", job.id, count(job.counts.accepted), job.lane))?;
    }
    note(format_args!("Follow it: tollway jobs watch {}", job.id));
    Ok(Exit::Done)
}
