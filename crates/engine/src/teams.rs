//! Teams: made and disabled, each with a line of who did it.

use domain::{Action, Object};
use serde_json::{Value, json};
use store::{
    audit::{self, Change},
    key,
    team::{self, TeamRow},
};

use crate::{Engine, keys};

#[derive(Debug, thiserror::Error)]
pub enum TeamError {
    #[error("{reason}")]
    Param { name: &'static str, reason: &'static str },
    #[error("the team {0:?} exists already")]
    Taken(String),
    #[error("the team {0:?} is declared in tollway.toml; change it there and apply the file")]
    FileManaged(String),
    #[error("there is no such team")]
    NotFound,
    #[error(
        "the team {0:?} has the last admin key: disabled, nobody could change anything. Create an admin key of another team first, one \
         that does not expire within a week"
    )]
    LastAdmin(String),
    #[error("the database cannot be reached")]
    Unavailable(#[from] store::Error),
}

/// `by` is the key that asks.
pub async fn create(engine: &Engine, name: &str, weight: i32, by: &str) -> Result<TeamRow, TeamError> {
    if !is_name(name) {
        let reason = "a team's name has 1 to 63 of a-z, 0-9, _ and -, and begins with a letter or a digit";
        return Err(TeamError::Param { name: "name", reason });
    }
    if !(1..=1000).contains(&weight) {
        return Err(TeamError::Param { name: "weight", reason: "a team's weight is 1 to 1000" });
    }
    let mut tx = engine.pools.api.begin().await?;
    let Some(row) = team::create(&mut tx, name, weight).await? else {
        return Err(match team::get_by_name(&mut tx, name).await? {
            Some(row) if row.is_file_managed() => TeamError::FileManaged(row.name),
            _ => TeamError::Taken(name.to_owned()),
        });
    };
    audit::record_change(&mut tx, line(&row, Action::Create, json!({ "weight": weight }), by)).await?;
    tx.commit().await?;
    Ok(row)
}

/// Its keys are refused; its jobs and its spend stay. Again on a disabled team it changes nothing.
pub async fn disable(engine: &Engine, name: &str, by: &str) -> Result<TeamRow, TeamError> {
    let mut tx = engine.pools.api.begin().await?;
    store::config::lock(&mut tx).await?;
    let before = team::get_by_name(&mut tx, name).await?.ok_or(TeamError::NotFound)?;
    if !before.is_file_managed() && key::ends_administration(&mut tx, None, Some(before.team_id)).await? {
        return Err(TeamError::LastAdmin(before.name));
    }
    let row = team::disable(&mut tx, name).await?.ok_or(TeamError::FileManaged(before.name))?;
    if before.disabled_at.is_none() {
        audit::record_change(&mut tx, line(&row, Action::Disable, json!({}), by)).await?;
    }
    tx.commit().await?;
    keys::see_changes(engine).await;
    Ok(row)
}

fn line<'a>(row: &TeamRow, action: Action, details: Value, by: &'a str) -> Change<'a> {
    Change { object: Object::Team(row.name.clone()), key_id: Some(by), action, details }
}

/// As the table checks it.
fn is_name(name: &str) -> bool {
    let begins_well = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let goes_on_well = |b: &u8| begins_well(b) || matches!(b, b'_' | b'-');
    (1..=63).contains(&name.len())
        && name.as_bytes().first().is_some_and(begins_well)
        && name.as_bytes().iter().all(goes_on_well)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_table_takes() {
        for name in ["a", "0x", "search-team_2", &"a".repeat(63)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "-a", "_a", "A", "a b", "ä", &"a".repeat(64)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
