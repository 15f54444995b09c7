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
    /// Show the lanes, what waits in them, and why; also without a subcommand
    List,
    /// Declare a lane, or change it; what is left out has its default
    Set(set::Set),
    /// Remove a lane that no key names; what is left in it is still served
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
