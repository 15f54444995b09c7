//! `tollway jobs list`.

use std::num::NonZeroUsize;

use clap::Args;
use domain::Job;

use crate::cli::{
    Common, Exit, Format, Outcome,
    client::{Client, Page},
    output::{self, Align, count, note, optional, time},
};

/// The most that one page holds.
const PAGE: usize = 200;

#[derive(Debug, Args)]
pub struct List {
    /// queued, running, paused, completed, cancelled, expired, …
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    #[arg(long, value_name = "LANE", help = "In this lane only")]
    lane: Option<String>,
    /// Show at most this many
    #[arg(long, value_name = "N", default_value = "50")]
    limit: NonZeroUsize,
}

pub async fn run(client: &Client, args: List, common: &Common) -> Outcome {
    let wanted = args.limit.get();
    let mut jobs: Vec<Job> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let limit = PAGE.min(wanted - jobs.len());
        let mut query = vec![("limit", limit.to_string())];
        let given = [("state", &args.state), ("lane", &args.lane), ("cursor", &cursor)];
        query.extend(given.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
        let page: Page<Job> = client.get("api/v1/jobs", &query).await?;
        jobs.extend(page.data);
        cursor = page.next;
        if cursor.is_none() || jobs.len() >= wanted {
            break;
        }
    }
    if common.output == Format::Json {
        output::json(&jobs)?;
        return Ok(Exit::Done);
    }
    let rows = jobs.into_iter().map(|job| {
        vec![
            job.id.to_string(),
            job.state.as_str().to_owned(),
            job.lane.to_string(),
            job.team,
            optional(job.name),
            format!("{}/{}", count(job.counts.succeeded), count(job.counts.accepted)),
            count(job.counts.failed),
            format!("${}", job.cost_usd),
            time(job.created_at),
            optional(job.waiting_reason),
        ]
    });
    let columns = [
        ("job", Align::Left),
        ("state", Align::Left),
        ("lane", Align::Left),
        ("team", Align::Left),
        ("name", Align::Left),
        ("succeeded", Align::Right),
        ("failed", Align::Right),
        ("cost", Align::Right),
        ("submitted", Align::Left),
        ("waits for", Align::Left),
    ];
    output::table(&columns, rows.collect(), "There are no jobs. Submit one: tollway submit FILE.jsonl")?;
    if cursor.is_some() {
        note(format_args!("There are more; ask with --limit {}.", wanted * 2));
    }
    Ok(Exit::Done)
}
