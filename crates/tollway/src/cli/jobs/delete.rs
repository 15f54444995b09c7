//! `tollway jobs delete`.

use std::io::IsTerminal;

use clap::Args;
use domain::JobId;
use reqwest::Method;
use serde_json::json;

use crate::cli::{
    Common, Exit, Failure, Format, Outcome,
    client::Client,
    output::{self, line, note},
};

#[derive(Debug, Args)]
pub struct Delete {
    id: JobId,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
}

pub async fn run(client: &Client, args: &Delete, common: &Common) -> Outcome {
    let id = args.id;
    if !args.yes && !is_confirmed(id)? {
        return Err(Failure::new(Exit::Refused, "nothing was deleted"));
    }
    client.send(client.request(Method::DELETE, &format!("api/v1/jobs/{id}"))).await?;
    match common.output {
        Format::Json => output::json(&json!({ "id": id, "deleted": true }))?,
        _ => line(format!("The bodies and results of {id} are purged."))?,
    }
    Ok(Exit::Done)
}

fn is_confirmed(id: JobId) -> Outcome<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("there is nobody to ask; give --yes"));
    }
    note(format_args!("Purge all bodies and results of {id}? They cannot be brought back. [y/N]"));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
