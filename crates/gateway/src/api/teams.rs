//! Teams. A key that does not reach over all teams sees its own.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use engine::admit::{Caller, Permission, Scope};
use serde::{Deserialize, Serialize};
use store::team::TeamRow;

use crate::{
    app::App,
    auth::Who,
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

pub async fn list(State(app): State<App>, Who(caller): Who) -> Result<Json<Page<TeamView>>, Problem> {
    let mut conn = app.engine.pools.api.acquire().await?;
    let rows = store::team::list(&mut conn).await?;
    let data = rows.into_iter().filter(|row| can_see(&caller, row)).map(TeamView::from).collect();
    Ok(Json(Page { data, next: None }))
}

pub async fn get(State(app): State<App>, Who(caller): Who, Id(name): Id<String>) -> Result<Json<TeamView>, Problem> {
    let mut conn = app.engine.pools.api.acquire().await?;
    let row = store::team::get_by_name(&mut conn, &name).await?.filter(|row| can_see(&caller, row));
    row.map(|row| Json(row.into())).ok_or_else(|| no_team(&name))
}

pub async fn create(State(app): State<App>, body: Body) -> Result<Response, Problem> {
    let new: NewTeam = read_json(body).await?;
    if !is_name(&new.name) {
        return Err(Problem::new(
            Kind::Invalid,
            "A team's name has 1 to 63 of a-z, 0-9, _ and -, and begins with a letter or a digit.",
        )
        .with("param", "name"));
    }
    if !(1..=1000).contains(&new.weight) {
        return Err(Problem::new(Kind::Invalid, "A team's weight is 1 to 1000.").with("param", "weight"));
    }
    let mut conn = app.engine.pools.api.acquire().await?;
    match store::team::create(&mut conn, &new.name, new.weight).await? {
        Some(row) => {
            let location = format!("/api/v1/teams/{}", row.name);
            Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(TeamView::from(row))).into_response())
        }
        None => Err(match store::team::get_by_name(&mut conn, &new.name).await? {
            Some(row) if row.is_file_managed() => managed_by_file(&row.name),
            _ => Problem::new(Kind::Conflict, format_args!("The team {:?} exists already.", new.name)),
        }),
    }
}

/// Disables it: its keys are refused, its jobs and its spend stay.
pub async fn disable(State(app): State<App>, Id(name): Id<String>) -> Result<Json<TeamView>, Problem> {
    let mut conn = app.engine.pools.api.acquire().await?;
    if let Some(row) = store::team::disable(&mut conn, &name).await? {
        drop(conn);
        super::keys::see_changes(&app).await;
        return Ok(Json(row.into()));
    }
    Err(match store::team::get_by_name(&mut conn, &name).await? {
        Some(row) => managed_by_file(&row.name),
        None => no_team(&name),
    })
}

fn can_see(caller: &Caller, row: &TeamRow) -> bool {
    match caller.scope(Permission::ReadTeams) {
        Scope::All => true,
        Scope::Team(own) => own == row.team_id,
    }
}

/// As the table checks it.
fn is_name(name: &str) -> bool {
    let begins_well = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let goes_on_well = |b: &u8| begins_well(b) || matches!(b, b'_' | b'-');
    (1..=63).contains(&name.len())
        && name.as_bytes().first().is_some_and(begins_well)
        && name.as_bytes().iter().all(goes_on_well)
}

fn no_team(name: &str) -> Problem {
    Problem::not_found(format_args!("team {:?}", name.chars().take(64).collect::<String>()))
}

fn managed_by_file(name: &str) -> Problem {
    Problem::new(
        Kind::ManagedByFile,
        format_args!("The team {name:?} is declared in tollway.toml; change it there and apply the file."),
    )
}

impl From<TeamRow> for TeamView {
    fn from(row: TeamRow) -> Self {
        let TeamRow { name, weight, managed_by, created_at, disabled_at, team_id: _ } = row;
        Self { name, weight, managed_by, created_at, disabled_at }
    }
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
