//! `tollway schedules …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use domain::{Lane, Schedule, ScheduleId};
use reqwest::Method;
use serde_json::json;

use super::{
    Common, Exit, Failure, Format, Outcome,
    client::{Client, Page},
    output::{self, Align, count, line, optional, time},
};

#[derive(Debug, Subcommand)]
pub enum Schedules {
    /// List recurring jobs
    List,
    /// Submit the same requests on a schedule
    Create(Create),
    /// Delete a schedule; its jobs stay
    Delete { id: ScheduleId },
}

#[derive(Debug, Args)]
pub struct Create {
    /// One request a line, as for submit; at most 16 MiB
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[arg(long, value_name = "NAME", help = "Of the schedule, and of its jobs")]
    name: String,
    /// Minute, hour, day, month, weekday; or six fields with seconds first
    #[arg(long, value_name = "EXPRESSION")]
    cron: String,
    /// In which the expression is read, such as Europe/Berlin
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    time_zone: String,
    /// Skip a run while the previous job still runs
    #[arg(long)]
    skip_if_running: bool,
    /// As for submit
    #[arg(long, value_name = "LANE")]
    lane: Option<Lane>,
    /// As for submit; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    tag: Vec<String>,
    /// As for submit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i16>,
    /// As for submit
    #[arg(long, value_name = "N")]
    max_attempts: Option<i16>,
    /// As for submit
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,
}

pub async fn run(args: Schedules, common: &Common) -> Outcome {
    let client = Client::find()?;
    match args {
        Schedules::List => list(&client, common).await,
        Schedules::Create(create) => make(&client, create, common).await,
        Schedules::Delete { id } => {
            client.send(client.request(Method::DELETE, &format!("api/v1/schedules/{id}"))).await?;
            match common.output {
                Format::Json => output::json(&json!({ "id": id, "deleted": true }))?,
                _ => line(format!("{id} fires no more."))?,
            }
            Ok(Exit::Done)
        }
    }
}

async fn list(client: &Client, common: &Common) -> Outcome {
    let page: Page<Schedule> = client.get("api/v1/schedules", &()).await?;
    if common.output == Format::Json {
        output::json(&page.data)?;
        return Ok(Exit::Done);
    }
    let rows = page.data.into_iter().map(|schedule| {
        vec![
            schedule.id.to_string(),
            schedule.name,
            schedule.team,
            format!("{} {}", schedule.cron, schedule.time_zone),
            count(schedule.requests),
            schedule.next_at.map_or_else(|| "never".to_owned(), time),
            optional(schedule.last_job),
            optional(schedule.last_error),
        ]
    });
    let columns = [
        ("schedule", Align::Left),
        ("name", Align::Left),
        ("team", Align::Left),
        ("cron", Align::Left),
        ("requests", Align::Right),
        ("next", Align::Left),
        ("last job", Align::Left),
        ("failed with", Align::Left),
    ];
    output::table(&columns, rows.collect(), "There are no schedules.")?;
    Ok(Exit::Done)
}

async fn make(client: &Client, create: Create, common: &Common) -> Outcome {
    let Create { file, name, cron, time_zone, skip_if_running, lane, tag, priority, max_attempts, webhook } = create;
    let lines = std::fs::read(&file)
        .map_err(|error| Failure::usage(format_args!("cannot read {}: {error}", file.display())))?;
    let mut query = vec![
        ("name", name),
        ("cron", cron),
        ("time_zone", time_zone),
        ("skip_if_running", skip_if_running.to_string()),
    ];
    query.extend(lane.map(|lane| ("lane", lane.to_string())));
    query.extend(priority.map(|priority| ("priority", priority.to_string())));
    query.extend(max_attempts.map(|most| ("max_attempts", most.to_string())));
    query.extend(webhook.map(|webhook| ("webhook", webhook)));
    if !tag.is_empty() {
        query.push(("tags", tag.join(",")));
    }
    let request = client.request(Method::POST, "api/v1/schedules").query(&query).body(lines);
    let schedule: Schedule = client.read(request).await?;
    match common.output {
        Format::Json => output::json(&schedule)?,
        _ => {
            let next = schedule.next_at.map_or_else(|| "never".to_owned(), time);
            line(format!("{}: {} requests each time, next at {next}", schedule.id, count(schedule.requests)))?;
        }
    }
    Ok(Exit::Done)
}
