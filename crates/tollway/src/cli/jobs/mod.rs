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
    /// List jobs, the newest first
    List(list::List),
    /// Show one job
    Show { id: JobId },
    /// Follow a job to its end; exit code 3 when not all of its requests succeeded
    Watch { id: JobId },
    /// Start no more calls of a job until it is resumed
    Pause { id: JobId },
    /// Go on with a paused job
    Resume { id: JobId },
    /// End a job: nothing more of it runs, and calls under way are hung up on
    Cancel { id: JobId },
    /// Let a job go on that waits for approval; takes the role operator or admin
    Approve { id: JobId },
    /// Change priority, deadline, what it comes after or may cost, of a job that has not ended
    Set(change::Set),
    /// Show a job's failed requests by reason
    Failures { id: JobId },
    /// Make a new job of the requests that failed
    Retry(retry::Retry),
    /// Print result lines, in the order of the job's lines
    Results(results::Results),
    /// Purge a job's bodies and results; its counts and its spend stay
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
