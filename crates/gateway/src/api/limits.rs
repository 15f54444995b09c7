//! Limits in force, with the names of what they limit.

use std::collections::HashMap;

use axum::{Json, extract::State};
use serde::Serialize;

use crate::{app::App, page::Page, problem::Problem};

#[derive(Serialize)]
pub struct LimitView {
    /// `team:NAME`, `lane:LANE:team:NAME`, `key:ID` or `deployment:NAME`.
    scope: String,
    /// `slots`, `rpm` or `tpm`.
    kind: String,
    cap: i64,
    managed_by: String,
}

pub async fn list(State(app): State<App>) -> Result<Json<Page<LimitView>>, Problem> {
    let mut conn = app.engine.pools.api.acquire().await?;
    let teams: HashMap<i64, String> =
        store::team::list(&mut conn).await?.into_iter().map(|team| (team.team_id, team.name)).collect();
    let rows = store::limit::active(&mut conn).await?;
    let mut data: Vec<LimitView> = rows
        .into_iter()
        .map(|row| LimitView {
            scope: with_name(&row.scope, &teams),
            kind: row.kind,
            cap: row.cap,
            managed_by: row.managed_by,
        })
        .collect();
    data.sort_by(|a, b| (&a.scope, &a.kind).cmp(&(&b.scope, &b.kind)));
    Ok(Json(Page { data, next: None }))
}

/// A stored scope names teams by number; people know them by name.
fn with_name(scope: &str, teams: &HashMap<i64, String>) -> String {
    let (start, number) = match scope.rsplit_once("team:") {
        Some(parts) if !scope.starts_with("deployment:") => parts,
        _ => return scope.to_owned(),
    };
    match number.parse().ok().and_then(|number: i64| teams.get(&number)) {
        Some(name) => format!("{start}team:{name}"),
        None => scope.to_owned(),
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
