//! `tollway deployments …`.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Common, Exit, Format, Outcome,
    client::{Client, Page, segment},
    output::{self, Align, line, optional},
};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Deployments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List deployments with their state; the default subcommand
    List,
    /// Take a deployment out of service on all replicas for a time
    Cool {
        name: String,
        /// At most 30 days
        #[arg(long = "for", value_name = "SECONDS", default_value_t = 3_600)]
        for_s: u64,
    },
    /// Put a deployment back into service: taken out by hand, or cooling
    Release { name: String },
}

#[derive(Debug, Serialize, Deserialize)]
struct Deployment {
    name: String,
    provider: String,
    model: String,
    state: String,
    team: Option<String>,
    error_class: Option<String>,
    reason: Option<String>,
    until: Option<DateTime<Utc>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Cooled {
    name: String,
    until: DateTime<Utc>,
}

pub async fn run(args: Deployments, common: &Common) -> Outcome {
    let client = Client::find()?;
    let is_json = common.output == Format::Json;
    match args.command.unwrap_or(Command::List) {
        Command::List => {
            let page: Page<Deployment> = client.get("api/v1/deployments", &()).await?;
            if is_json {
                output::json(&page.data)?;
            } else {
                show(page.data)?;
            }
        }
        Command::Cool { name, for_s } => {
            let path = format!("api/v1/deployments/{}/cool", segment(&name));
            let cooled: Cooled = client.post(&path, &json!({ "for_s": for_s })).await?;
            if is_json {
                output::json(&cooled)?;
            } else {
                let until = cooled.until.format("%Y-%m-%d %H:%M:%S UTC");
                line(format!("{name} takes no calls until {until}; all replicas follow within a second."))?;
            }
        }
        Command::Release { name } => {
            let path = format!("api/v1/deployments/{}/release", segment(&name));
            client.send(client.request(Method::POST, &path)).await?;
            if is_json {
                output::json(&json!({ "released": name }))?;
            } else {
                line(format!("{name} takes calls again; all replicas follow within a second."))?;
            }
        }
    }
    Ok(Exit::Done)
}

fn show(deployments: Vec<Deployment>) -> std::io::Result<()> {
    let rows = deployments.into_iter().map(|one| {
        let until = one.until.map(|until| until.format("%Y-%m-%d %H:%M:%S").to_string());
        vec![one.name, one.provider, one.model, one.state, optional(one.team), optional(until), optional(one.reason)]
    });
    let columns =
        ["deployment", "provider", "model", "state", "for team", "until (UTC)", "why"].map(|name| (name, Align::Left));
    output::table(&columns, rows.collect(), "No deployment is declared.")
}
