//! `tollway lanes …`.

mod set;
mod show;

use clap::{Args, Subcommand};
use reqwest::Method;

use super::{
    Common, Exit, Format, Outcome,
    client::{Client, segment},
    output::{self, line},
};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Lanes {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List lanes with what waits in them, and why; the default subcommand
    List,
    /// Create or change a lane; omitted options get their defaults
    Set(set::Set),
    /// Remove a lane that no key names; requests in it are still served
    Remove { name: String },
}

pub async fn run(args: Lanes, common: &Common) -> Outcome {
    let client = Client::find()?;
    match args.command.unwrap_or(Command::List) {
        Command::List => show::run(&client, common).await,
        Command::Set(set) => set::run(&client, set, common).await,
        Command::Remove { name } => {
            client.send(client.request(Method::DELETE, &format!("api/v1/lanes/{}", segment(&name)))).await?;
            match common.output {
                Format::Json => output::json(&serde_json::json!({ "removed": name }))?,
                _ => line(format!("Lane {name} is removed: it takes nothing new, and what is left in it is served."))?,
            }
            Ok(Exit::Done)
        }
    }
}
