//! What a team's receivers check the signatures of its webhooks with.

use std::time::Duration;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use engine::admit::{Caller, Permission, Scope};
use notify::webhook::secrets::{self, Made, OVERLAP, SecretError, Turn};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use store::webhook_secret::SecretRow;
use tracing::info;
use uuid::Uuid;

use crate::{
    App,
    auth::CurrentCaller,
    input::{Id, SMALL, parse_json, read_body},
    page::Page,
    problem::{Kind, Problem},
};

/// A secret without its text.
#[derive(Serialize)]
pub struct SecretView {
    id: Uuid,
    created_at: DateTime<Utc>,
    created_by: String,
    /// Until then it signs beside the newest; null: it is the newest.
    expires_at: Option<DateTime<Utc>>,
}

#[derive(Serialize)]
struct MadeView {
    id: Uuid,
    /// Shown this once.
    secret: String,
    active: Vec<SecretView>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewSecret {
    /// Also when the team has one.
    #[serde(default)]
    rotate: bool,
    /// How long the one before signs beside it; else a day.
    overlap_s: Option<u64>,
}

pub async fn list(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Id(team): Id<String>,
) -> Result<Json<Page<SecretView>>, Problem> {
    check_reach(&caller, &team)?;
    let active = secrets::active(&app.engine.notifier, &team).await.map_err(|error| refused(error, &team))?;
    Ok(Json(Page { data: active.into_iter().map(SecretView::from).collect(), next: None }))
}

pub async fn create(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Id(team): Id<String>,
    body: Body,
) -> Result<Response, Problem> {
    check_reach(&caller, &team)?;
    let body = read_body(body, SMALL).await?;
    let NewSecret { rotate, overlap_s } = match body.is_empty() {
        true => NewSecret::default(),
        false => parse_json(&body)?,
    };
    let overlap = overlap_s.map_or(OVERLAP, Duration::from_secs);
    let turn = if rotate { Turn::Rotate { overlap } } else { Turn::First };
    let Made { secret_id, secret, active } = secrets::make(&app.engine.notifier, &team, turn, &caller.key_id)
        .await
        .map_err(|error| refused(error, &team))?;
    info!(key.id = %caller.key_id, team, secret.id = %secret_id, "A webhook secret was made");
    let view = MadeView {
        id: secret_id,
        secret: secret.expose_secret().to_owned(),
        active: active.into_iter().map(SecretView::from).collect(),
    };
    // It is shown once, and kept by nobody on the way.
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(view)).into_response())
}

/// Another team's secrets are as if there were none.
fn check_reach(caller: &Caller, team: &str) -> Result<(), Problem> {
    match caller.scope(Permission::ManageWebhookSecrets) {
        Scope::All => Ok(()),
        Scope::Team(_) if *caller.team == *team => Ok(()),
        Scope::Team(_) => Err(no_team(team)),
    }
}

fn no_team(name: &str) -> Problem {
    Problem::not_found(format_args!("team {:?}", name.chars().take(64).collect::<String>()))
}

fn refused(error: SecretError, team: &str) -> Problem {
    match error {
        SecretError::NoTeam => no_team(team),
        SecretError::Exists(_) => Problem::new(Kind::Conflict, format_args!("{error}.")),
        SecretError::Overlap(_) => Problem::new(Kind::Invalid, format_args!("{error}.")).with("param", "overlap_s"),
        SecretError::Unsealed => Problem::internal(error),
        SecretError::Unavailable(error) => error.into(),
    }
}

impl From<SecretRow> for SecretView {
    fn from(row: SecretRow) -> Self {
        let SecretRow { secret_id, created_at, created_by, expires_at, sealed: _ } = row;
        Self { id: secret_id, created_at, created_by, expires_at }
    }
}
