//! `tollway teams …`.

use chrono::{DateTime, Utc};
use clap::Subcommand;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Common, Exit, Format, Outcome,
    client::{Client, Page, segment},
    output::{self, Align, line, note, time},
};

#[derive(Debug, Subcommand)]
pub enum Teams {
    /// List teams
    List,
    /// Create a team; create its keys with `tollway keys create`
    Create {
        name: String,
        /// Weight among the teams of a lane, 1 to 1000
        #[arg(long, value_name = "N", default_value_t = 1)]
        weight: i32,
    },
    /// Disable a team: its keys are refused; its jobs and its spend stay
    Disable { name: String },
    /// Create the signing secret of a team's webhooks; shown once
    WebhookSecret {
        name: String,
        /// Replace the secret; the old one stays valid for --overlap-hours
        #[arg(long)]
        rotate: bool,
        /// How long the old secret stays valid
        #[arg(long, value_name = "HOURS", default_value_t = 24, requires = "rotate")]
        overlap_hours: u64,
        /// Show which are active, without their texts
        #[arg(long, conflicts_with = "rotate")]
        list: bool,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Secret {
    id: String,
    created_at: DateTime<Utc>,
    created_by: String,
    expires_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Made {
    id: String,
    secret: String,
    active: Vec<Secret>,
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
        Teams::WebhookSecret { name, list: true, .. } => {
            let path = format!("api/v1/teams/{}/webhook-secret", segment(&name));
            let page: Page<Secret> = client.get(&path, &()).await?;
            if is_json { output::json(&page.data)? } else { show_secrets(page.data)? }
        }
        Teams::WebhookSecret { name, rotate, overlap_hours, .. } => {
            let path = format!("api/v1/teams/{}/webhook-secret", segment(&name));
            let body = match rotate {
                true => json!({ "rotate": true, "overlap_s": overlap_hours.saturating_mul(3_600) }),
                false => json!({}),
            };
            let made: Made = client.post(&path, &body).await?;
            if is_json {
                output::json(&made)?;
            } else {
                line(&made.secret)?;
                note("It is shown this once. Give it to whatever receives the team's webhooks.");
                if let Some(until) = made.active.iter().find_map(|secret| secret.expires_at) {
                    note(format!("The one before signs beside it until {}.", time(until)));
                }
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

fn show_secrets(secrets: Vec<Secret>) -> std::io::Result<()> {
    let rows = secrets.into_iter().map(|secret| {
        let until = secret.expires_at.map_or_else(|| "it is replaced".to_owned(), time);
        vec![secret.id, time(secret.created_at), secret.created_by, until]
    });
    let columns =
        [("secret", Align::Left), ("made", Align::Left), ("by key", Align::Left), ("signs until", Align::Left)];
    output::table(&columns, rows.collect(), "There is none. Make one: tollway teams webhook-secret TEAM")
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
