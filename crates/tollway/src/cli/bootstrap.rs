//! The first admin key, through the database: there is nobody yet who could ask the gateway for it.

use domain::{Action, Object};
use engine::admit::{Minted, mint};
use secrecy::{ExposeSecret, SecretBox};
use serde_json::json;
use store::{
    Pools,
    audit::{self, Change},
    key::NewKey,
};

use super::{Exit, Failure, Outcome};

/// `prod` last: a key's first lane is its default.
pub const LANES: [&str; 3] = ["standard", "bulk", "prod"];

/// Makes the team where it is missing, and an admin key for it. The schema must be up to date.
pub async fn first_admin_key(pools: &Pools, pepper: &SecretBox<[u8; 32]>, team: &str, name: &str) -> Outcome<Minted> {
    let mut tx = pools.api.begin().await?;
    let found = match store::team::get_by_name(&mut tx, team).await? {
        Some(found) => Some(found),
        None => store::team::create(&mut tx, team, 1).await.map_err(|error| refused(&error, team))?,
    };
    let found = found
        .ok_or_else(|| Failure::new(Exit::Refused, format_args!("team {team} is being made just now; try again")))?;
    if found.disabled_at.is_some() {
        return Err(Failure::new(Exit::Refused, format_args!("team {team} is disabled; choose another with --team")));
    }
    let minted = mint(pepper.expose_secret());
    let new = NewKey {
        key_id: &minted.key_id,
        team_id: found.team_id,
        name,
        role: domain::Role::Admin.as_str(),
        lanes: &LANES.map(str::to_owned),
        mac: &minted.mac,
        slots: None,
        rpm: None,
        tpm: None,
        expires_at: None,
    };
    store::key::create(&mut tx, &new).await.map_err(|error| refused(&error, team))?;
    let details = json!({ "team": team, "name": name, "role": new.role, "lanes": new.lanes, "bootstrap": true });
    let object = Object::Key(minted.key_id.clone());
    audit::record_change(&mut tx, Change { object, key_id: None, action: Action::Create, details }).await?;
    tx.commit().await?;
    Ok(minted)
}

/// The tables check names; which one they refused is in the constraint's name.
fn refused(error: &store::Error, team: &str) -> Failure {
    match error.as_database_error().and_then(|error| error.constraint()) {
        Some("team_name_check") => Failure::new(
            Exit::Refused,
            format_args!("{team:?} is not a team's name: 1 to 63 of a-z, 0-9, _ and -, a letter or digit first"),
        ),
        Some("api_key_name_check") => Failure::new(Exit::Refused, "a key's name has 1 to 128 characters"),
        _ => Failure::new(Exit::Failed, format_args!("the database said: {error}")),
    }
}
