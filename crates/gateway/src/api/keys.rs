//! API keys. The key itself is in one answer only: that of its creation.

use std::collections::HashSet;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use domain::{Lane, Role};
use engine::admit::mint;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use store::key::{KeyRow, NewKey};

use crate::{
    app::App,
    input::{Id, Params, read_json},
    page::{Page, read_cursor, read_limit},
    problem::{Kind, Problem},
};

#[derive(Serialize)]
pub struct KeyView {
    id: String,
    team: String,
    name: String,
    role: String,
    lanes: Vec<String>,
    slots: Option<i64>,
    rpm: Option<i64>,
    tpm: Option<i64>,
    created_at: DateTime<Utc>,
    revoked_at: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKeyBody {
    team: String,
    name: String,
    role: Role,
    /// The first is its default for synchronous calls. `prod` only by name: any key in `prod` would be the incident itself.
    #[serde(default = "usual_lanes")]
    lanes: Vec<Lane>,
    slots: Option<i64>,
    rpm: Option<i64>,
    tpm: Option<i64>,
}

#[derive(Serialize)]
struct CreatedKey<'a> {
    /// Shown this once.
    key: &'a str,
    #[serde(flatten)]
    view: KeyView,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListParams {
    team: Option<String>,
    cursor: Option<String>,
    limit: Option<i64>,
}

fn usual_lanes() -> Vec<Lane> {
    vec![Lane::standard(), Lane::bulk()]
}

pub async fn list(State(app): State<App>, Params(params): Params<ListParams>) -> Result<Json<Page<KeyView>>, Problem> {
    let limit = read_limit(params.limit)?;
    let before = params.cursor.as_deref().map(read_cursor).transpose()?;
    let mut conn = app.engine.pools.api.acquire().await?;
    let team_id = match &params.team {
        Some(name) => match store::team::get_by_name(&mut conn, name).await? {
            Some(team) => Some(team.team_id),
            None => return Ok(Json(Page { data: Vec::new(), next: None })),
        },
        None => None,
    };
    let rows = store::key::list(&mut conn, team_id, before.as_deref(), limit + 1).await?;
    let views = rows.into_iter().map(KeyView::from).collect();
    Ok(Json(Page::of(views, limit, |view: &KeyView| view.id.clone())))
}

pub async fn get(State(app): State<App>, Id(key_id): Id<String>) -> Result<Json<KeyView>, Problem> {
    let mut conn = app.engine.pools.api.acquire().await?;
    let row = store::key::get(&mut conn, &key_id).await?;
    row.map(|row| Json(row.into())).ok_or_else(|| no_key(&key_id))
}

pub async fn create(State(app): State<App>, body: Body) -> Result<Response, Problem> {
    let new: NewKeyBody = read_json(body).await?;
    check(&new, &app.engine.catalog.get().lanes.keys().collect::<Vec<_>>())?;
    let mut tx = app.engine.pools.api.begin().await?;
    let team = store::team::get_by_name(&mut tx, &new.team).await?.filter(|team| team.disabled_at.is_none());
    let team = team.ok_or_else(|| {
        Problem::new(Kind::Invalid, "There is no such team, or it is disabled.").with("param", "team")
    })?;
    let minted = mint(app.engine.pepper.expose_secret());
    let lanes: Vec<String> = new.lanes.into_iter().map(String::from).collect();
    let row = store::key::create(
        &mut tx,
        &NewKey {
            key_id: &minted.key_id,
            team_id: team.team_id,
            name: &new.name,
            role: new.role.as_str(),
            lanes: &lanes,
            mac: &minted.mac,
            slots: new.slots,
            rpm: new.rpm,
            tpm: new.tpm,
        },
    )
    .await?;
    let scope = format!("key:{}", row.key_id);
    for (kind, cap) in [("slots", new.slots), ("rpm", new.rpm), ("tpm", new.tpm)] {
        if let Some(cap) = cap {
            store::limit::set(&mut tx, &scope, kind, cap).await?;
        }
    }
    tx.commit().await?;
    // Its caps before the key itself: it may be used the moment it is known.
    let _ = engine::limits::reload(&app.engine).await;
    see_changes(&app).await;
    let headers =
        [(header::LOCATION, format!("/api/v1/keys/{}", row.key_id)), (header::CACHE_CONTROL, "no-store".to_owned())];
    let created = CreatedKey { key: minted.key.expose(), view: row.into() };
    Ok((StatusCode::CREATED, headers, Json(created)).into_response())
}

pub async fn revoke(State(app): State<App>, Id(key_id): Id<String>) -> Result<Json<KeyView>, Problem> {
    let mut conn = app.engine.pools.api.acquire().await?;
    let row = store::key::revoke(&mut conn, &key_id).await?;
    drop(conn);
    see_changes(&app).await;
    row.map(|row| Json(row.into())).ok_or_else(|| no_key(&key_id))
}

/// This replica follows at once; the others within a second, and so would this one if the look failed.
pub async fn see_changes(app: &App) {
    let _ = app.engine.keys.refresh(&app.engine.pools.work).await;
}

fn check(new: &NewKeyBody, known: &[&Lane]) -> Result<(), Problem> {
    let invalid = |param: &str, detail: &str| Err(Problem::new(Kind::Invalid, detail).with("param", param));
    if !(1..=128).contains(&new.name.chars().count()) || new.name.chars().any(char::is_control) {
        return invalid("name", "A key's name has 1 to 128 characters.");
    }
    if !(1..=32).contains(&new.lanes.len()) {
        return invalid("lanes", "A key has 1 to 32 lanes.");
    }
    if new.lanes.iter().collect::<HashSet<_>>().len() != new.lanes.len() {
        return invalid("lanes", "A lane stands there twice.");
    }
    if let Some(unknown) = new.lanes.iter().find(|lane| !known.contains(lane)) {
        let known: Vec<&str> = known.iter().map(|lane| lane.as_str()).collect();
        return Err(Problem::new(Kind::Invalid, format_args!("There is no lane {:?}.", unknown.as_str()))
            .with("param", "lanes")
            .with("known", known));
    }
    for (name, cap) in [("slots", new.slots), ("rpm", new.rpm), ("tpm", new.tpm)] {
        if cap.is_some_and(|cap| cap < 1) {
            return invalid(name, "A cap is at least 1; leave it out for none.");
        }
    }
    Ok(())
}

fn no_key(key_id: &str) -> Problem {
    Problem::not_found(format_args!("key {:?}", key_id.chars().take(12).collect::<String>()))
}

impl From<KeyRow> for KeyView {
    fn from(row: KeyRow) -> Self {
        let KeyRow { key_id, team, name, role, lanes, slots, rpm, tpm, created_at, revoked_at, team_id: _ } = row;
        Self { id: key_id, team, name, role, lanes, slots, rpm, tpm, created_at, revoked_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(json: &str) -> Option<String> {
        let new: NewKeyBody = serde_json::from_str(json).unwrap();
        let problem = check(&new, &[&Lane::prod(), &Lane::standard(), &Lane::bulk()]).err()?;
        Some(problem.members["param"].as_str().unwrap().to_owned())
    }

    #[test]
    fn a_key_gets_no_prod_unless_it_is_named() {
        let new: NewKeyBody = serde_json::from_str(r#"{"team":"t","name":"n","role":"submit"}"#).unwrap();
        assert_eq!(new.lanes, [Lane::standard(), Lane::bulk()]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(said(r#"{"team":"t","name":"n","role":"submit","lanes":["prod"],"rpm":1}"#), None);
        assert_eq!(said(r#"{"team":"t","name":"","role":"submit"}"#).as_deref(), Some("name"));
        assert_eq!(said(r#"{"team":"t","name":"n","role":"submit","lanes":[]}"#).as_deref(), Some("lanes"));
        assert_eq!(said(r#"{"team":"t","name":"n","role":"submit","lanes":["night"]}"#).as_deref(), Some("lanes"));
        assert_eq!(
            said(r#"{"team":"t","name":"n","role":"submit","lanes":["bulk","bulk"]}"#).as_deref(),
            Some("lanes")
        );
        assert_eq!(said(r#"{"team":"t","name":"n","role":"submit","slots":0}"#).as_deref(), Some("slots"));
    }
}
