//! `tollway jobs …`.

mod change;
mod delete;
mod events;
mod failures;
mod list;
mod results;
mod retry;
mod screen;
mod show;
pub mod watch;

use clap::Subcommand;
use domain::{Job, JobId};
use reqwest::Method;

use super::{
    Common, Exit, Format, Outcome,
    client::Client,
    output::{self, count, line},
};

#[derive(Debug, Subcommand)]
pub enum Jobs {
    /// List jobs, newest first
    List(list::List),
    /// Show one job
    Show { id: JobId },
    /// Follow a job to its end; exit with 3 unless every request succeeded
    Watch { id: JobId },
    /// Start no more calls of a job until it is resumed
    Pause { id: JobId },
    /// Resume a paused job
    Resume { id: JobId },
    /// Cancel a job: nothing more starts, and calls in flight are cut
    Cancel { id: JobId },
    /// Approve a job that waits for approval; needs the role operator or admin
    Approve { id: JobId },
    /// Change priority, deadline, dependency or maximum cost of a job that has not ended
    Set(change::Set),
    /// Show a job's failed requests by reason
    Failures { id: JobId },
    /// Retry failed requests as a new job
    Retry(retry::Retry),
    /// Print result lines in line order
    Results(results::Results),
    /// Purge a job's bodies and results; its counts and its spend are kept
    Delete(delete::Delete),
}

pub async fn run(args: Jobs, common: &Common) -> Outcome {
    let client = Client::find()?;
    match args {
        Jobs::List(args) => list::run(&client, args, common).await,
        Jobs::Show { id } => show::run(&client, id, common).await,
        Jobs::Watch { id } => watch::run(&client, id, common).await,
        Jobs::Pause { id } => change(&client, id, "pause", common).await,
        Jobs::Resume { id } => change(&client, id, "resume", common).await,
        Jobs::Cancel { id } => change(&client, id, "cancel", common).await,
        Jobs::Approve { id } => change(&client, id, "approve", common).await,
        Jobs::Set(args) => change::run(&client, args, common).await,
        Jobs::Failures { id } => failures::run(&client, id, common).await,
        Jobs::Retry(args) => retry::run(&client, &args, common).await,
        Jobs::Results(args) => results::run(&client, &args).await,
        Jobs::Delete(args) => delete::run(&client, &args, common).await,
    }
}

async fn change(client: &Client, id: JobId, verb: &str, common: &Common) -> Outcome {
    let job: Job = client.read(client.request(Method::POST, &format!("api/v1/jobs/{id}/{verb}"))).await?;
    match common.output {
        Format::Json => output::json(&job)?,
        _ if job.in_flight > 0 && !job.state.is_terminal() => {
            line(format!("{id} is {}; {} calls under way will end.", job.state.as_str(), count(job.in_flight)))?;
        }
        _ => line(format!("{id} is {}.", job.state.as_str()))?,
    }
    Ok(Exit::Done)
}
