//! A change of one lane: checked against the others, and made part of the active configuration, which all replicas follow.

use admission::limits;
use domain::{
    Action, Catalog, Lane, Object,
    catalog::{BadLanes, LaneRule, check_lanes},
};
use serde_json::json;
use store::{
    PgConnection,
    audit::{self, Change},
};

use crate::{
    Engine,
    config::{self, merged, with_closing},
};

/// Keys that a refusal names.
const NAMED: i64 = 5;

#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    #[error("lane {0} is declared in tollway.toml; change it there and apply the file")]
    FileManaged(Lane),
    #[error("there is no lane {0}")]
    NotFound(Lane),
    #[error(transparent)]
    Bad(#[from] BadLanes),
    #[error("keys name the lane {lane}, such as {}; revoke them first", keys.join(", "))]
    HasKeys { lane: Lane, keys: Vec<String> },
    #[error("the database cannot be reached")]
    Unavailable(#[from] store::Error),
}

/// Declares a lane, or changes its rule. `by`: the id of the key that asks.
pub async fn set(engine: &Engine, lane: &Lane, rule: &LaneRule, by: &str) -> Result<(), LaneError> {
    let mut tx = engine.pools.api.begin().await?;
    let before = lock(&mut tx, lane).await?;
    store::lane::set(&mut tx, lane, Some(rule), by).await?;
    apply(&mut tx, by).await?;
    record(&mut tx, lane, before.as_ref(), Some(rule), by).await?;
    tx.commit().await?;
    config::follow_now(engine).await;
    Ok(())
}

/// Removes a lane that no key names. What is left in it is served under the rule that it had.
pub async fn remove(engine: &Engine, lane: &Lane, by: &str) -> Result<(), LaneError> {
    let mut tx = engine.pools.api.begin().await?;
    let before = lock(&mut tx, lane).await?.ok_or_else(|| LaneError::NotFound(lane.clone()))?;
    let keys = store::lane::keys_naming(&mut tx, lane, NAMED).await?;
    if !keys.is_empty() {
        return Err(LaneError::HasKeys { lane: lane.clone(), keys });
    }
    if Catalog::default_lanes().contains_key(lane) {
        store::lane::set(&mut tx, lane, None, by).await?;
    } else {
        store::lane::forget(&mut tx, lane).await?;
    }
    apply(&mut tx, by).await?;
    record(&mut tx, lane, Some(&before), None, by).await?;
    tx.commit().await?;
    config::follow_now(engine).await;
    Ok(())
}

/// Locks out other changes of lanes. Returns the rule of this one, which the API may change.
async fn lock(conn: &mut PgConnection, lane: &Lane) -> Result<Option<LaneRule>, LaneError> {
    store::config::lock(conn).await?;
    let rows = store::lane::list(conn).await?;
    if rows.iter().any(|row| row.lane == *lane && row.is_file_managed) {
        return Err(LaneError::FileManaged(lane.clone()));
    }
    let declared = Catalog { lanes: merged(&rows), ..Catalog::default() };
    Ok(declared.lanes_in_force().get(lane).cloned())
}

async fn record(
    conn: &mut PgConnection,
    lane: &Lane,
    from: Option<&LaneRule>,
    to: Option<&LaneRule>,
    by: &str,
) -> Result<(), LaneError> {
    if from == to {
        return Ok(());
    }
    let action = if to.is_some() { Action::Set } else { Action::Remove };
    let (object, details) = (Object::Lane(lane.clone()), json!({ "from": from, "to": to }));
    Ok(audit::record_change(conn, Change { object, key_id: Some(by), action, details }).await?)
}

/// Makes the lanes as they are declared now part of the active configuration.
async fn apply(conn: &mut PgConnection, by: &str) -> Result<(), LaneError> {
    let rows = store::lane::list(conn).await?;
    let lanes = merged(&rows);
    // When nobody declares any, those by default hold.
    if !rows.is_empty() {
        check_lanes(&lanes)?;
    }
    let active = store::config::load_active(conn).await?.map(|active| active.catalog).unwrap_or_default();
    let next = Catalog { lanes: with_closing(lanes, &active), ..active };
    store::config::apply(conn, &next, by).await?;
    limits::apply(conn, &next).await?;
    Ok(())
}
