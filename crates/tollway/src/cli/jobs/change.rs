//! `tollway jobs set`.

use chrono::Utc;
use clap::Args;
use domain::{After, Job, JobId, money::Total};
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::cli::{
    Common, Exit, Failure, Format, Outcome,
    client::Client,
    job_params::{self, Moment},
    output::{self, line, time},
};

#[derive(Debug, Args)]
pub struct Set {
    id: JobId,
    /// -100 to 100 among the team's own jobs in the lane; higher is sooner
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i16>,
    /// 2026-12-24T18:00:00Z; 90m, 6h or 2d from now; or none
    #[arg(long, value_name = "TIME", value_parser = or_none(job_params::time))]
    deadline: Option<OrNone<Moment>>,
    /// After this job, or JOB:end; none: at once. Only before its first call
    #[arg(long, value_name = "JOB", value_parser = or_none(|text: &str| text.parse::<After>().map_err(|e| e.to_string())))]
    after: Option<OrNone<After>>,
    /// The most that it may cost in USD, of a job submitted with such an amount
    #[arg(long, value_name = "AMOUNT")]
    max_cost: Option<Total>,
}

#[derive(Debug, Clone, Copy)]
enum OrNone<T> {
    Some(T),
    None,
}

fn or_none<T: Clone + Send + Sync + 'static>(
    read: impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static,
) -> impl Fn(&str) -> Result<OrNone<T>, String> + Clone + Send + Sync + 'static {
    move |text| if text == "none" { Ok(OrNone::None) } else { read(text).map(OrNone::Some) }
}

pub async fn run(client: &Client, args: Set, common: &Common) -> Outcome {
    let mut change = Map::new();
    if let Some(priority) = args.priority {
        change.insert("priority".to_owned(), priority.into());
    }
    match args.deadline {
        Some(OrNone::Some(moment)) => {
            change.insert("deadline".to_owned(), moment.text(Utc::now())?.into());
        }
        Some(OrNone::None) => {
            change.insert("deadline".to_owned(), Value::Null);
        }
        None => {}
    }
    match args.after {
        Some(OrNone::Some(after)) => {
            change.insert("after".to_owned(), json!(after));
        }
        Some(OrNone::None) => {
            change.insert("after".to_owned(), Value::Null);
        }
        None => {}
    }
    if let Some(most) = args.max_cost {
        change.insert("max_cost".to_owned(), json!(most));
    }
    if change.is_empty() {
        return Err(Failure::usage("say what to change: --priority, --deadline, --after or --max-cost"));
    }
    let request = client.request(Method::PATCH, &format!("api/v1/jobs/{}", args.id)).json(&change);
    let job: Job = client.read(request).await?;
    match common.output {
        Format::Json => output::json(&job)?,
        _ => {
            let deadline =
                job.deadline_at.map_or_else(|| "no deadline".to_owned(), |at| format!("deadline {}", time(at)));
            let after = job.after.map_or_else(String::new, |after| format!(", after {after}"));
            let most = job.max_cost.map_or_else(String::new, |most| format!(", at most ${most}"));
            line(format!("{}: priority {}, {deadline}{after}{most}", job.id, job.priority))?;
        }
    }
    Ok(Exit::Done)
}
