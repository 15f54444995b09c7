//! A change of one limit through the API: checked against the file and against the other limits.

use store::{PgConnection, limit::LimitRow};

use super::{Target, deployment_scope, key_scope, lane_scope, lanes, part, reload, team_scope};
use crate::Engine;

#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    #[error("{0:?} is no scope: team:NAME, lane:LANE:team:NAME, key:ID or deployment:NAME")]
    BadScope(String),
    #[error("{kind:?} is no kind of limit here; {known} are")]
    BadKind { kind: String, known: &'static str },
    #[error("a limit is at least 1, not {0}; remove it, and there is none")]
    BadCap(i64),
    #[error("there is no {0}")]
    NotFound(String),
    #[error("the limit {kind} of {target} is declared in tollway.toml; change it there and apply the file")]
    FileManaged { target: Target, kind: String },
    /// It would be of no effect, or make another so.
    #[error("{kind} {cap} of {target} contradicts {kind} {other} of {other_scope}, which {why}")]
    Contradicts { target: Target, kind: String, cap: i64, other: i64, other_scope: String, why: &'static str },
    #[error("the database cannot be reached")]
    Unavailable(#[from] store::Error),
}

/// Sets it; all replicas follow within a second.
pub async fn set(engine: &Engine, target: &Target, kind: &str, cap: i64) -> Result<(), LimitError> {
    check_kind(target, kind)?;
    if cap < 1 {
        return Err(LimitError::BadCap(cap));
    }
    let mut tx = engine.pools.api.begin().await?;
    // Two contradictory ones at the same time would each look fine.
    store::config::lock(&mut tx).await?;
    let found = find(engine, &mut tx, target).await?;
    let rows = store::limit::active(&mut tx).await?;
    check_owner(&rows, &found, target, kind)?;
    check_beside(&rows, &found, target, kind, cap)?;
    store::limit::set(&mut tx, &found.scope, kind, cap).await?;
    write(&mut tx, target, kind, Some(cap)).await?;
    tx.commit().await?;
    follow(engine).await;
    Ok(())
}

/// Removes it, if there is one.
pub async fn lift(engine: &Engine, target: &Target, kind: &str) -> Result<(), LimitError> {
    check_kind(target, kind)?;
    let mut tx = engine.pools.api.begin().await?;
    store::config::lock(&mut tx).await?;
    let found = find(engine, &mut tx, target).await?;
    let rows = store::limit::active(&mut tx).await?;
    check_owner(&rows, &found, target, kind)?;
    if !rows.iter().any(|row| row.scope == found.scope && row.kind == kind) {
        return Err(LimitError::NotFound(format!("limit {kind} of {target}")));
    }
    store::limit::lift(&mut tx, &found.scope, kind).await?;
    write(&mut tx, target, kind, None).await?;
    tx.commit().await?;
    follow(engine).await;
    Ok(())
}

/// What else says what the limit says.
async fn write(conn: &mut PgConnection, target: &Target, kind: &str, cap: Option<i64>) -> Result<(), LimitError> {
    match target {
        Target::Key(id) => store::key::set_cap(conn, id, kind, cap).await?,
        Target::Deployment(name) => {
            let catalog = store::config::load_active(conn).await?.map(|active| active.catalog).unwrap_or_default();
            part(conn, name, kind, cap, &lanes(&catalog)).await?;
        }
        Target::Team(_) | Target::Lane { .. } => {}
    }
    Ok(())
}

/// This replica at once; the others look by themselves, and so would this one.
async fn follow(engine: &Engine) {
    let _ = reload(engine).await;
    engine.limits.demand.notify_one();
    engine.bell.ring();
}

fn check_kind(target: &Target, kind: &str) -> Result<(), LimitError> {
    let is_rate = matches!(kind, "slots" | "rpm" | "tpm");
    match target {
        Target::Team(_) if is_rate || matches!(kind, "pending_requests" | "pending_bytes") => Ok(()),
        Target::Team(_) => Err(bad_kind(kind, "slots, rpm, tpm, pending_requests and pending_bytes")),
        _ if is_rate => Ok(()),
        _ => Err(bad_kind(kind, "slots, rpm and tpm")),
    }
}

fn bad_kind(kind: &str, known: &'static str) -> LimitError {
    LimitError::BadKind { kind: kind.chars().take(64).collect(), known }
}

/// A target as the limits' table knows it.
struct Found {
    scope: String,
    /// The scope of the team's own limits, for what is inside a team.
    outer: Option<String>,
    /// The scopes inside a team.
    inner: Vec<String>,
}

async fn find(engine: &Engine, conn: &mut PgConnection, target: &Target) -> Result<Found, LimitError> {
    let missing = || LimitError::NotFound(target.to_string());
    let catalog = engine.catalog.get();
    match target {
        Target::Team(name) => {
            let id = store::team::get_by_name(conn, name).await?.ok_or_else(missing)?.team_id;
            let lanes = catalog.lanes.keys().map(|lane| lane_scope(lane, id));
            let keys = store::key::ids_of_team(conn, id).await?;
            let inner = lanes.chain(keys.iter().map(|key| key_scope(key))).collect();
            Ok(Found { scope: team_scope(id), outer: None, inner })
        }
        Target::Lane { lane, team } => {
            let id = store::team::get_by_name(conn, team).await?.ok_or_else(missing)?.team_id;
            if !catalog.lanes.contains_key(lane) {
                return Err(missing());
            }
            Ok(Found { scope: lane_scope(lane, id), outer: Some(team_scope(id)), inner: Vec::new() })
        }
        Target::Key(id) => {
            let key = store::key::get(conn, id).await?.filter(|key| key.revoked_at.is_none()).ok_or_else(missing)?;
            Ok(Found { scope: key_scope(id), outer: Some(team_scope(key.team_id)), inner: Vec::new() })
        }
        Target::Deployment(name) => {
            catalog.deployment(name).ok_or_else(missing)?;
            Ok(Found { scope: deployment_scope(name), outer: None, inner: Vec::new() })
        }
    }
}

fn check_owner(rows: &[LimitRow], found: &Found, target: &Target, kind: &str) -> Result<(), LimitError> {
    let is_files = |row: &&LimitRow| row.scope == found.scope && row.kind == kind && row.managed_by == "file";
    match rows.iter().find(is_files) {
        Some(_) => Err(LimitError::FileManaged { target: target.clone(), kind: kind.to_owned() }),
        None => Ok(()),
    }
}

/// A part cannot have more than the whole.
fn check_beside(rows: &[LimitRow], found: &Found, target: &Target, kind: &str, cap: i64) -> Result<(), LimitError> {
    for row in rows.iter().filter(|row| row.kind == kind) {
        let why = if found.outer.as_ref() == Some(&row.scope) && row.cap < cap {
            "it is part of"
        } else if found.inner.contains(&row.scope) && row.cap > cap {
            "is part of it"
        } else {
            continue;
        };
        let (target, kind, other_scope) = (target.clone(), kind.to_owned(), named(&row.scope, target));
        return Err(LimitError::Contradicts { target, kind, cap, other: row.cap, other_scope, why });
    }
    Ok(())
}

/// A stored scope with the team's name in place of its number; the team is the target's own.
fn named(scope: &str, target: &Target) -> String {
    let team = match target {
        Target::Team(team) | Target::Lane { team, .. } => team.as_str(),
        Target::Key(_) => "the key's",
        Target::Deployment(_) => return scope.to_owned(),
    };
    match scope.rsplit_once("team:") {
        Some((start, _)) => format!("{start}team:{team}"),
        None => scope.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_no_more_than_the_whole() {
        let row = |scope: &str, cap| LimitRow {
            limit_id: 1,
            scope: scope.into(),
            kind: "slots".into(),
            cap,
            managed_by: "api".into(),
        };
        let rows = [row("team:7", 10), row("lane:bulk:team:7", 6)];
        let target: Target = "lane:bulk:team:search".parse().unwrap();
        let inside = Found { scope: "lane:bulk:team:7".into(), outer: Some("team:7".into()), inner: Vec::new() };
        assert!(check_beside(&rows, &inside, &target, "slots", 10).is_ok());
        assert!(check_beside(&rows, &inside, &target, "rpm", 11).is_ok());
        let refused = check_beside(&rows, &inside, &target, "slots", 11).unwrap_err().to_string();
        assert_eq!(
            refused,
            "slots 11 of lane:bulk:team:search contradicts slots 10 of team:search, which it is part of"
        );
        let target = Target::Team("search".into());
        let whole = Found { scope: "team:7".into(), outer: None, inner: vec!["lane:bulk:team:7".into()] };
        let refused = check_beside(&rows, &whole, &target, "slots", 5).unwrap_err().to_string();
        assert_eq!(refused, "slots 5 of team:search contradicts slots 6 of lane:bulk:team:search, which is part of it");
    }
}
