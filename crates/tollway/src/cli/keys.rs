//! `tollway keys …`.

use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, Subcommand};
use domain::{Lane, Role, budget::Length};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Common, Exit, Failure, Format, Outcome, bootstrap,
    client::{Client, Page, segment},
    local,
    output::{self, Align, line, note, time},
};

#[derive(Debug, Subcommand)]
pub enum Keys {
    /// List keys, newest first; a key itself is shown only once, when it is created
    List {
        /// Of this team only
        #[arg(long, value_name = "TEAM")]
        team: Option<String>,
    },
    /// Create a key and print it, this once
    Create(Create),
    /// Revoke a key; it is refused within a second
    Revoke {
        /// Its 12 characters in `keys list`
        id: String,
    },
}

#[derive(Debug, Args)]
pub struct Create {
    /// Team that owns the key
    #[arg(long, value_name = "TEAM")]
    team: String,
    /// What it is for
    #[arg(long, value_name = "NAME")]
    name: String,
    /// submit, read, finance, operator or admin
    #[arg(long, value_name = "ROLE", default_value = "submit")]
    role: Role,
    /// Lanes it may use, the default one first
    #[arg(long, value_name = "LANES", value_delimiter = ',', default_value = "standard,bulk")]
    lanes: Vec<Lane>,
    /// Calls at once; no limit when left out
    #[arg(long, value_name = "N")]
    slots: Option<i64>,
    /// Requests a minute; no limit when left out
    #[arg(long, value_name = "N")]
    rpm: Option<i64>,
    /// Tokens a minute; no limit when left out
    #[arg(long, value_name = "N")]
    tpm: Option<i64>,
    /// When it ends: in 90d, 12h, or at 2027-01-31T00:00:00Z; never when left out
    #[arg(long, value_name = "WHEN")]
    expires: Option<Expiry>,
    /// Create the first admin key, directly in the database
    #[arg(long, conflicts_with_all = ["role", "slots", "rpm", "tpm", "expires"])]
    bootstrap: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expiry {
    In(Length),
    At(DateTime<Utc>),
}

impl FromStr for Expiry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at = || text.parse().map(Self::At).ok();
        let bad =
            || format!("{text:?} is neither a length of time, such as 90d, nor a moment, such as 2027-01-31T00:00:00Z");
        text.parse().map(Self::In).ok().or_else(at).ok_or_else(bad)
    }
}

impl Expiry {
    fn moment(self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::At(at) => Some(at),
            Self::In(length) => now.checked_add_signed(TimeDelta::try_seconds(length.seconds())?),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Key {
    #[serde(alias = "key_id")]
    id: String,
    team: String,
    name: String,
    role: String,
    lanes: Vec<String>,
    slots: Option<i64>,
    rpm: Option<i64>,
    tpm: Option<i64>,
    created_at: DateTime<Utc>,
    #[serde(default)]
    expires_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
}

pub async fn run(args: Keys, common: &Common) -> Outcome {
    match args {
        Keys::List { team } => list(team.as_deref(), common).await,
        Keys::Create(create) if create.bootstrap => make_first(&create, common).await,
        Keys::Create(create) => make(create, common).await,
        Keys::Revoke { id } => {
            let client = Client::find()?;
            let path = format!("api/v1/keys/{}", segment(&id));
            let key: Key = client.read(client.request(Method::DELETE, &path)).await?;
            match common.output {
                Format::Json => output::json(&key)?,
                _ => line(format!("Key {id} of team {} is revoked; it is refused within a second.", key.team))?,
            }
            Ok(Exit::Done)
        }
    }
}

async fn list(team: Option<&str>, common: &Common) -> Outcome {
    let client = Client::find()?;
    let mut keys: Vec<Key> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let query = [("team", team), ("cursor", cursor.as_deref())];
        let given: Vec<_> = query.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let page: Page<Key> = client.get("api/v1/keys", &given).await?;
        keys.extend(page.data);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    if common.output == Format::Json {
        output::json(&keys)?;
        return Ok(Exit::Done);
    }
    let now = Utc::now();
    let rows = keys.into_iter().map(|key| {
        let caps = [("slots", key.slots), ("rpm", key.rpm), ("tpm", key.tpm)];
        let caps: Vec<_> = caps.iter().filter_map(|(name, cap)| Some(format!("{name} {}", (*cap)?))).collect();
        let state = state(&key, now);
        let caps = if caps.is_empty() { "-".to_owned() } else { caps.join(", ") };
        vec![key.id, key.team, key.name, key.role, key.lanes.join(","), caps, state, time(key.created_at)]
    });
    let columns =
        ["id", "team", "name", "role", "lanes", "limits", "state", "created"].map(|column| (column, Align::Left));
    output::table(&columns, rows.collect(), "There are no keys.")?;
    Ok(Exit::Done)
}

fn state(key: &Key, now: DateTime<Utc>) -> String {
    match (key.revoked_at, key.expires_at) {
        (Some(at), _) => format!("revoked {}", time(at)),
        (None, Some(at)) if at <= now => format!("expired {}", time(at)),
        (None, Some(at)) => format!("active until {}", time(at)),
        (None, None) => "active".to_owned(),
    }
}

async fn make(create: Create, common: &Common) -> Outcome {
    let Create { team, name, role, lanes, slots, rpm, tpm, expires, bootstrap: _ } = create;
    let expires_at = match expires {
        Some(expiry) => Some(expiry.moment(Utc::now()).ok_or_else(|| Failure::usage("--expires lies too far ahead"))?),
        None => None,
    };
    let mut body = json!({
        "team": team, "name": name, "role": role, "lanes": lanes, "slots": slots, "rpm": rpm, "tpm": tpm,
    });
    // A gateway of an earlier version does not know it.
    if let Some(at) = expires_at {
        body["expires_at"] = json!(at);
    }
    let made: Value = Client::find()?.post("api/v1/keys", &body).await?;
    let key = made["key"].as_str().ok_or_else(|| Failure::new(Exit::Failed, "the gateway answered without a key"))?;
    match common.output {
        Format::Json => output::json(&made)?,
        _ => show_once(key, &format!("{role} key of team {team}", role = role.as_str()))?,
    }
    Ok(Exit::Done)
}

async fn make_first(create: &Create, common: &Common) -> Outcome {
    let config = local::load(common)?.config;
    let pepper = config.pepper()?;
    let pools = local::connect(&config)?;
    let made = bootstrap::first_admin_key(&pools, &pepper, &create.team, &create.name).await?;
    match common.output {
        Format::Json => output::json(&json!({
            "id": made.key_id, "key": made.key.expose(), "team": create.team, "role": Role::Admin, "lanes": bootstrap::LANES,
        }))?,
        _ => show_once(made.key.expose(), &format!("admin key of team {}", create.team))?,
    }
    Ok(Exit::Done)
}

/// The key alone on standard output, so that a script can take it.
fn show_once(key: &str, what: &str) -> std::io::Result<()> {
    note(format_args!("The {what}; it is shown this once:"));
    line(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_a_length_or_a_moment() {
        let now: DateTime<Utc> = "2026-12-01T00:00:00Z".parse().unwrap();
        let read = |text: &str| text.parse::<Expiry>().map(|expiry| expiry.moment(now));
        assert_eq!(read("90d"), Ok(Some(now + TimeDelta::days(90))));
        assert_eq!(read("12h"), Ok(Some(now + TimeDelta::hours(12))));
        assert_eq!(read("2027-01-31T00:00:00Z"), Ok(Some("2027-01-31T00:00:00Z".parse().unwrap())));
        for text in ["", "90", "soon", "-1d", "2027-01-31"] {
            assert!(read(text).unwrap_err().contains("90d"), "{text}");
        }
        assert_eq!(read("106751991167d"), Ok(None), "beyond the calendar");
    }
}
