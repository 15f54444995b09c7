//! Limits in force, with the names of what they limit, and changing those that the file does not declare.

use std::collections::HashMap;

use admission::limits::{self, BadScope, LimitError, LimitScope, StoredScope};
use axum::{Json, body::Body, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use tracing::info;

use crate::{
    App,
    auth::CurrentCaller,
    input::{Params, read_json},
    page::Page,
    problem::{Kind, Problem},
};

#[derive(Serialize)]
pub struct LimitView {
    /// `team:NAME`, `lane:LANE:team:NAME`, `key:ID` or `deployment:NAME`; `team:*` is every team without one of its own.
    scope: String,
    /// `slots`, `rpm`, `tpm`, `pending_requests` or `pending_bytes`.
    kind: String,
    cap: i64,
    managed_by: String,
    /// Of a deployment's slots: what this replica makes of them after refusals of the provider.
    adapted: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewLimit {
    scope: String,
    kind: String,
    cap: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    scope: String,
    kind: String,
}

pub async fn list(State(app): State<App>) -> Result<Json<Page<LimitView>>, Problem> {
    let mut conn = app.engine.pools.api.acquire().await?;
    let teams: HashMap<i64, String> =
        store::team::list(&mut conn).await?.into_iter().map(|team| (team.team_id, team.name)).collect();
    let rows = store::limit::active(&mut conn).await?;
    let quota = app.engine.catalog.get().quota();
    let everyone =
        [("pending_requests", quota.requests), ("pending_bytes", quota.bytes)].map(|(kind, cap)| LimitView {
            scope: "team:*".to_owned(),
            kind: kind.to_owned(),
            cap,
            managed_by: "file".to_owned(),
            adapted: None,
        });
    let mut data: Vec<LimitView> = rows
        .into_iter()
        .map(|row| LimitView {
            scope: with_name(&row.scope, &teams),
            adapted: match row.scope.parse() {
                Ok(StoredScope::Deployment(name)) if row.kind == "slots" => {
                    app.engine.control.limits.concurrency.ceiling(&name)
                }
                _ => None,
            },
            kind: row.kind,
            cap: row.cap,
            managed_by: row.managed_by,
        })
        .chain(everyone)
        .collect();
    data.sort_by(|a, b| (&a.scope, &a.kind).cmp(&(&b.scope, &b.kind)));
    Ok(Json(Page { data, next: None }))
}

pub async fn put(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    body: Body,
) -> Result<Json<LimitView>, Problem> {
    let NewLimit { scope, kind, cap } = read_json(body).await?;
    let target = target(&scope)?;
    limits::set(&app.engine.control, &target, &kind, cap, &caller.key_id).await.map_err(refused)?;
    info!(key.id = %caller.key_id, scope = %target, kind, cap, "A limit was set");
    if let LimitScope::Key(_) = target {
        engine::keys::see_changes(&app.engine).await;
    }
    Ok(Json(LimitView { scope: target.to_string(), kind, cap, managed_by: "api".to_owned(), adapted: None }))
}

pub async fn remove(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Params(which): Params<Which>,
) -> Result<StatusCode, Problem> {
    let target = target(&which.scope)?;
    limits::lift(&app.engine.control, &target, &which.kind, &caller.key_id).await.map_err(refused)?;
    info!(key.id = %caller.key_id, scope = %target, kind = which.kind, "A limit was removed");
    if let LimitScope::Key(_) = target {
        engine::keys::see_changes(&app.engine).await;
    }
    Ok(StatusCode::NO_CONTENT)
}

fn target(scope: &str) -> Result<LimitScope, Problem> {
    scope.parse().map_err(|bad: BadScope| refused(bad.into()))
}

fn refused(error: LimitError) -> Problem {
    let (kind, param) = match error {
        LimitError::BadScope(_) => (Kind::Invalid, Some("scope")),
        LimitError::BadKind { .. } => (Kind::Invalid, Some("kind")),
        LimitError::BadCap(_) | LimitError::Contradicts(_) => (Kind::Invalid, Some("cap")),
        LimitError::NotFound(what) => return Problem::not_found(what),
        LimitError::FileManaged { .. } => (Kind::ManagedByFile, None),
        LimitError::Unavailable(error) => return error.into(),
    };
    let problem = Problem::new(kind, error);
    match param {
        Some(param) => problem.with("param", param),
        None => problem,
    }
}

/// A stored scope names teams by number; people know them by name.
fn with_name(scope: &str, teams: &HashMap<i64, String>) -> String {
    let Ok(known) = scope.parse::<StoredScope>() else { return scope.to_owned() };
    match known.team().map(|team| teams.get(&team)) {
        Some(Some(team)) => known.named(team),
        Some(None) => scope.to_owned(),
        None => known.named(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_shows_its_teams_name() {
        let teams = HashMap::from([(7, "search".to_owned())]);
        let shown =
            ["team:7", "lane:bulk:team:7", "team:8", "key:abc", "deployment:team:7"].map(|s| with_name(s, &teams));
        assert_eq!(shown, ["team:search", "lane:bulk:team:search", "team:8", "key:abc", "deployment:team:7"]);
    }
}
