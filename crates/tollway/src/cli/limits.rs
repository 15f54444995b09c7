//! `tollway limits …`.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Common, Exit, Format, Outcome,
    client::{Client, Page},
    output::{self, Align, count, line, optional},
};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Limits {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List limits in force; the default subcommand
    List,
    /// Set a limit
    Set {
        #[command(flatten)]
        which: Which,
        /// At least 1; bytes for pending_bytes
        cap: i64,
    },
    /// Remove a limit
    Remove {
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Debug, Args, Serialize)]
struct Which {
    /// team:NAME, lane:LANE:team:NAME, key:ID or deployment:NAME
    scope: String,
    /// slots, rpm, tpm; of a team also pending_requests, pending_bytes
    kind: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Limit {
    scope: String,
    kind: String,
    cap: i64,
    managed_by: String,
    #[serde(default)]
    adapted: Option<i64>,
}

pub async fn run(args: Limits, common: &Common) -> Outcome {
    let client = Client::find()?;
    let is_json = common.output == Format::Json;
    match args.command.unwrap_or(Command::List) {
        Command::List => {
            let page: Page<Limit> = client.get("api/v1/limits", &()).await?;
            if is_json {
                output::json(&page.data)?;
            } else {
                show(page.data)?;
            }
        }
        Command::Set { which, cap } => {
            let body = json!({ "scope": which.scope, "kind": which.kind, "cap": cap });
            let limit: Limit = client.read(client.request(Method::PUT, "api/v1/limits").json(&body)).await?;
            if is_json {
                output::json(&limit)?;
            } else {
                line(format!(
                    "{} of {} is {}; all replicas follow within a second.",
                    limit.kind, limit.scope, limit.cap
                ))?;
            }
        }
        Command::Remove { which } => {
            client.send(client.request(Method::DELETE, "api/v1/limits").query(&which)).await?;
            if is_json {
                output::json(&json!({ "removed": which }))?;
            } else {
                line(format!("{} of {} is no longer limited.", which.kind, which.scope))?;
            }
        }
    }
    Ok(Exit::Done)
}

fn show(limits: Vec<Limit>) -> std::io::Result<()> {
    let rows = limits.into_iter().map(|limit| {
        vec![limit.scope, limit.kind, count(limit.cap), optional(limit.adapted.map(count)), limit.managed_by]
    });
    let columns = [
        ("scope", Align::Left),
        ("kind", Align::Left),
        ("cap", Align::Right),
        ("adapted", Align::Right),
        ("managed by", Align::Left),
    ];
    output::table(&columns, rows.collect(), "Nothing is limited.")
}
