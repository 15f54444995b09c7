//! `tollway teams …`.

use chrono::{DateTime, Utc};
use clap::Subcommand;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Common, Exit, Format, Outcome,
    client::{Client, Page, segment},
    output::{self, Align, line, time},
};

#[derive(Debug, Subcommand)]
pub enum Teams {
    /// List teams
    List,
    /// Make a team; keys are made for it with `tollway keys create`
    Create {
        name: String,
        /// Its share of a lane beside other teams, 1 to 1000
        #[arg(long, value_name = "N", default_value_t = 1)]
        weight: i32,
    },
    /// Disable a team: its keys are refused; its jobs and its spend stay
    Disable { name: String },
}

#[derive(Debug, Serialize, Deserialize)]
struct Team {
    name: String,
    weight: i32,
    managed_by: String,
    created_at: DateTime<Utc>,
    disabled_at: Option<DateTime<Utc>>,
}

pub async fn run(args: Teams, common: &Common) -> Outcome {
    let client = Client::find()?;
    let is_json = common.output == Format::Json;
    match args {
        Teams::List => {
            let page: Page<Team> = client.get("api/v1/teams", &()).await?;
            if is_json {
                output::json(&page.data)?;
            } else {
                show(page.data)?;
            }
        }
        Teams::Create { name, weight } => {
            let team: Team = client.post("api/v1/teams", &json!({ "name": name, "weight": weight })).await?;
            if is_json {
                output::json(&team)?;
            } else {
                line(format!(
                    "Team {name} is there. Make a key for it: tollway keys create --team {name} --name NAME"
                ))?;
            }
        }
        Teams::Disable { name } => {
            let path = format!("api/v1/teams/{}", segment(&name));
            let team: Team = client.read(client.request(Method::DELETE, &path)).await?;
            if is_json {
                output::json(&team)?;
            } else {
                line(format!("Team {name} is disabled: its keys are refused within a second."))?;
            }
        }
    }
    Ok(Exit::Done)
}

fn show(teams: Vec<Team>) -> std::io::Result<()> {
    let rows = teams.into_iter().map(|team| {
        let state = team.disabled_at.map_or_else(|| "active".to_owned(), |at| format!("disabled {}", time(at)));
        vec![team.name, team.weight.to_string(), team.managed_by, state, time(team.created_at)]
    });
    let columns = [
        ("team", Align::Left),
        ("weight", Align::Right),
        ("managed by", Align::Left),
        ("state", Align::Left),
        ("created", Align::Left),
    ];
    output::table(&columns, rows.collect(), "There are no teams. Make one: tollway teams create NAME")
}
