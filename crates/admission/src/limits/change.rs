//! A change of one limit through the API: checked against the file and against the other limits.

use domain::{Action, Object};
use serde_json::json;
use store::{
    PgConnection,
    audit::{self, Change},
    limit::LimitRow,
};

use super::{
    BadScope, LimitScope, apply_partitions,
    containment::{Caps, Contradiction, ScopeNesting},
    deployment_scope, key_scope, lane_scope, reload,
};
use crate::AdmissionControl;

#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    #[error(transparent)]
    BadScope(#[from] BadScope),
    #[error("{kind:?} is not a kind of limit of this scope; allowed are {known}")]
    BadKind { kind: String, known: &'static str },
    #[error("limit must be at least 1 (got {0}); to lift the limit, delete it")]
    BadCap(i64),
    #[error("there is no {0}")]
    NotFound(String),
    #[error("the limit {kind} of {target} is declared in tollway.toml; change it there and apply the file")]
    FileManaged { target: LimitScope, kind: String },
    #[error(transparent)]
    Contradicts(#[from] Contradiction),
    #[error("the database cannot be reached")]
    Unavailable(#[from] store::Error),
}

/// Sets it; all replicas follow within a second. `by` is the key that asks.
pub async fn set(
    control: &AdmissionControl,
    target: &LimitScope,
    kind: &str,
    cap: i64,
    by: &str,
) -> Result<(), LimitError> {
    check_kind(target, kind)?;
    if cap < 1 {
        return Err(LimitError::BadCap(cap));
    }
    let mut tx = control.pools.api.begin().await?;
    // Two changes that contradict each other would both pass if they were checked at the same time.
    store::config::lock(&mut tx).await?;
    let found = find(control, &mut tx, target).await?;
    let rows = store::limit::active(&mut tx).await?;
    check_owner(&rows, &found, target, kind)?;
    let caps = Caps::of(&rows);
    caps.check(&found, target, kind, cap)?;
    store::limit::set(&mut tx, &found.scope, kind, cap).await?;
    write(&mut tx, target, kind, Some(cap)).await?;
    record(&mut tx, target, kind, caps.get(&found.scope, kind), Some(cap), by).await?;
    tx.commit().await?;
    follow(control).await;
    Ok(())
}

/// Removes it, if there is one.
pub async fn lift(control: &AdmissionControl, target: &LimitScope, kind: &str, by: &str) -> Result<(), LimitError> {
    check_kind(target, kind)?;
    let mut tx = control.pools.api.begin().await?;
    store::config::lock(&mut tx).await?;
    let found = find(control, &mut tx, target).await?;
    let rows = store::limit::active(&mut tx).await?;
    check_owner(&rows, &found, target, kind)?;
    let Some(before) = Caps::of(&rows).get(&found.scope, kind) else {
        return Err(LimitError::NotFound(format!("limit {kind} of {target}")));
    };
    store::limit::lift(&mut tx, &found.scope, kind).await?;
    write(&mut tx, target, kind, None).await?;
    record(&mut tx, target, kind, Some(before), None, by).await?;
    tx.commit().await?;
    follow(control).await;
    Ok(())
}

async fn record(
    conn: &mut PgConnection,
    target: &LimitScope,
    kind: &str,
    from: Option<i64>,
    to: Option<i64>,
    by: &str,
) -> Result<(), LimitError> {
    if from == to {
        return Ok(());
    }
    let action = if to.is_some() { Action::Set } else { Action::Remove };
    let (object, details) = (Object::Limit(target.to_string()), json!({ "kind": kind, "from": from, "to": to }));
    Ok(audit::record_change(conn, Change { object, key_id: Some(by), action, details }).await?)
}

/// What else says what the limit says.
async fn write(conn: &mut PgConnection, target: &LimitScope, kind: &str, cap: Option<i64>) -> Result<(), LimitError> {
    match target {
        LimitScope::Key(id) => store::key::set_cap(conn, id, kind, cap).await?,
        LimitScope::Deployment(name) => {
            let catalog = store::config::load_active(conn).await?.map(|active| active.catalog).unwrap_or_default();
            apply_partitions(conn, name, kind, cap, &catalog.lanes_in_force()).await?;
        }
        LimitScope::Team(_) | LimitScope::Lane { .. } => {}
    }
    Ok(())
}

/// Applies the change on this replica at once. The others poll for it, and so would this one.
async fn follow(control: &AdmissionControl) {
    let _ = reload(control).await;
    control.limits.signals.demand.notify_one();
    control.work.notify();
}

fn check_kind(target: &LimitScope, kind: &str) -> Result<(), LimitError> {
    let is_rate = matches!(kind, "slots" | "rpm" | "tpm");
    match target {
        LimitScope::Team(_) if is_rate || matches!(kind, "pending_requests" | "pending_bytes") => Ok(()),
        LimitScope::Team(_) => Err(bad_kind(kind, "slots, rpm, tpm, pending_requests and pending_bytes")),
        _ if is_rate => Ok(()),
        _ => Err(bad_kind(kind, "slots, rpm and tpm")),
    }
}

fn bad_kind(kind: &str, known: &'static str) -> LimitError {
    LimitError::BadKind { kind: kind.chars().take(64).collect(), known }
}

async fn find(
    control: &AdmissionControl,
    conn: &mut PgConnection,
    target: &LimitScope,
) -> Result<ScopeNesting, LimitError> {
    let missing = || LimitError::NotFound(target.to_string());
    let catalog = control.catalog.get();
    match target {
        LimitScope::Team(name) => {
            let id = store::team::get_by_name(conn, name).await?.ok_or_else(missing)?.team_id;
            let keys = store::key::ids_of_team(conn, id).await?;
            Ok(ScopeNesting::team(name, id, catalog.lanes.keys(), keys.iter().map(String::as_str)))
        }
        LimitScope::Lane { lane, team } => {
            let id = store::team::get_by_name(conn, team).await?.ok_or_else(missing)?.team_id;
            if !catalog.lanes.contains_key(lane) {
                return Err(missing());
            }
            Ok(ScopeNesting::inside(lane_scope(lane, id), team, id))
        }
        LimitScope::Key(id) => {
            let key = store::key::get(conn, id).await?.filter(|key| key.revoked_at.is_none()).ok_or_else(missing)?;
            Ok(ScopeNesting::inside(key_scope(id), &key.team, key.team_id))
        }
        LimitScope::Deployment(name) => {
            catalog.deployment(name).ok_or_else(missing)?;
            let scope = deployment_scope(name);
            Ok(ScopeNesting { scope, team: String::new(), outer: None, inner: Vec::new() })
        }
    }
}

fn check_owner(rows: &[LimitRow], found: &ScopeNesting, target: &LimitScope, kind: &str) -> Result<(), LimitError> {
    let is_files = |row: &&LimitRow| row.scope == found.scope && row.kind == kind && row.managed_by == "file";
    match rows.iter().find(is_files) {
        Some(_) => Err(LimitError::FileManaged { target: target.clone(), kind: kind.to_owned() }),
        None => Ok(()),
    }
}
