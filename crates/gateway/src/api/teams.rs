//! Teams. A key that does not reach over all teams sees its own.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use engine::{
    admit::{Caller, Permission, Scope},
    teams::{self, TeamError},
};
use serde::{Deserialize, Serialize};
use store::team::TeamRow;

use crate::{
    App,
    auth::CurrentCaller,
    input::{Id, read_json},
    page::Page,
    problem::{Kind, Problem},
};

#[derive(Serialize)]
pub struct TeamView {
    name: String,
    weight: i32,
    managed_by: String,
    created_at: DateTime<Utc>,
    disabled_at: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTeam {
    name: String,
    /// Share of a lane beside other teams.
    #[serde(default = "one")]
    weight: i32,
}

fn one() -> i32 {
    1
}

pub async fn list(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
) -> Result<Json<Page<TeamView>>, Problem> {
    let mut conn = app.engine.pools.api.acquire().await?;
    let rows = store::team::list(&mut conn).await?;
    let data = rows.into_iter().filter(|row| can_see(&caller, row)).map(TeamView::from).collect();
    Ok(Json(Page { data, next: None }))
}

pub async fn get(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Id(name): Id<String>,
) -> Result<Json<TeamView>, Problem> {
    let mut conn = app.engine.pools.api.acquire().await?;
    let row = store::team::get_by_name(&mut conn, &name).await?.filter(|row| can_see(&caller, row));
    row.map(|row| Json(row.into())).ok_or_else(|| no_team(&name))
}

pub async fn create(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    body: Body,
) -> Result<Response, Problem> {
    let NewTeam { name, weight } = read_json(body).await?;
    let row = teams::create(&app.engine, &name, weight, &caller.key_id).await.map_err(refused)?;
    let location = format!("/api/v1/teams/{}", row.name);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(TeamView::from(row))).into_response())
}

/// Disables it: its keys are refused, its jobs and its spend stay.
pub async fn disable(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Id(name): Id<String>,
) -> Result<Json<TeamView>, Problem> {
    match teams::disable(&app.engine, &name, &caller.key_id).await {
        Ok(row) => Ok(Json(row.into())),
        Err(TeamError::NotFound) => Err(no_team(&name)),
        Err(error) => Err(refused(error)),
    }
}

fn can_see(caller: &Caller, row: &TeamRow) -> bool {
    match caller.scope(Permission::ReadTeams) {
        Scope::All => true,
        Scope::Team(own) => own == row.team_id,
    }
}

fn no_team(name: &str) -> Problem {
    Problem::not_found(format_args!("team {:?}", name.chars().take(64).collect::<String>()))
}

fn refused(error: TeamError) -> Problem {
    match error {
        TeamError::Param { name, .. } => Problem::new(Kind::Invalid, error).with("param", name),
        TeamError::Taken(_) | TeamError::LastAdmin(_) => Problem::new(Kind::Conflict, error),
        TeamError::FileManaged(_) => Problem::new(Kind::ManagedByFile, error),
        TeamError::NotFound => Problem::not_found("such team"),
        TeamError::Unavailable(error) => error.into(),
    }
}

impl From<TeamRow> for TeamView {
    fn from(row: TeamRow) -> Self {
        let TeamRow { name, weight, managed_by, created_at, disabled_at, team_id: _ } = row;
        Self { name, weight, managed_by, created_at, disabled_at }
    }
}
