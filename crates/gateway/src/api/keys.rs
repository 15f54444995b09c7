//! API keys. The key itself is in one answer only: that of its creation.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use domain::{Lane, Role, catalog::Caps};
use engine::keys::{self, KeyError, NewKey};
use serde::{Deserialize, Serialize};
use store::key::KeyRow;

use crate::{
    App,
    auth::CurrentCaller,
    input::{Id, Params, read_json},
    page::{Limit, Page, read_cursor, read_limit},
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
    /// Refused from then on; null: never.
    expires_at: Option<DateTime<Utc>>,
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
    expires_at: Option<DateTime<Utc>>,
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
    limit: Option<Limit>,
}

fn usual_lanes() -> Vec<Lane> {
    vec![Lane::standard(), Lane::bulk()]
}

pub async fn list(State(app): State<App>, Params(params): Params<ListParams>) -> Result<Json<Page<KeyView>>, Problem> {
    let limit = read_limit(params.limit);
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

pub async fn create(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    body: Body,
) -> Result<Response, Problem> {
    let NewKeyBody { team, name, role, lanes, slots, rpm, tpm, expires_at } = read_json(body).await?;
    let new = NewKey { team, name, role, lanes, caps: Caps { slots, rpm, tpm }, expires_at };
    let (minted, row) = keys::create(&app.engine, new, &caller.key_id).await.map_err(refused)?;
    let headers =
        [(header::LOCATION, format!("/api/v1/keys/{}", row.key_id)), (header::CACHE_CONTROL, "no-store".to_owned())];
    let created = CreatedKey { key: minted.key.expose(), view: row.into() };
    Ok((StatusCode::CREATED, headers, Json(created)).into_response())
}

pub async fn revoke(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Id(key_id): Id<String>,
) -> Result<Json<KeyView>, Problem> {
    match keys::revoke(&app.engine, &key_id, &caller.key_id).await {
        Ok(row) => Ok(Json(row.into())),
        Err(KeyError::NotFound) => Err(no_key(&key_id)),
        Err(error) => Err(refused(error)),
    }
}

fn refused(error: KeyError) -> Problem {
    match error {
        KeyError::Param { name, .. } => Problem::new(Kind::Invalid, error).with("param", name),
        KeyError::UnknownLane { ref known, .. } => {
            let known: Vec<String> = known.iter().map(ToString::to_string).collect();
            Problem::new(Kind::Invalid, error).with("param", "lanes").with("known", known)
        }
        KeyError::Contradicts(contradiction) => {
            Problem::new(Kind::Invalid, &contradiction).with("param", contradiction.kind)
        }
        KeyError::NotFound => Problem::not_found("such key"),
        KeyError::LastAdmin(_) => Problem::new(Kind::Conflict, error),
        KeyError::Unavailable(error) => error.into(),
    }
}

fn no_key(key_id: &str) -> Problem {
    Problem::not_found(format_args!("key {:?}", key_id.chars().take(12).collect::<String>()))
}

impl From<KeyRow> for KeyView {
    fn from(row: KeyRow) -> Self {
        let KeyRow { key_id, team, name, role, lanes, slots, rpm, tpm, created_at, expires_at, revoked_at, .. } = row;
        Self { id: key_id, team, name, role, lanes, slots, rpm, tpm, created_at, expires_at, revoked_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_gets_no_prod_unless_it_is_named() {
        let new: NewKeyBody = serde_json::from_str(r#"{"team":"t","name":"n","role":"submit"}"#).unwrap();
        assert_eq!(new.lanes, [Lane::standard(), Lane::bulk()]);
    }
}
