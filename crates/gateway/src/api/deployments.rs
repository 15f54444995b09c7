//! Deployments: how each fares as this replica sees it, and taking one out or putting it back in by hand.

use admission::route::{
    Standing,
    by_hand::{self, OrderError},
    obstacle,
};
use axum::{Json, body::Body, extract::State, http::StatusCode};
use chrono::{DateTime, TimeDelta, Utc};
use domain::ErrorClass;
use serde::{Deserialize, Serialize};
use tracing::info;

use crate::{
    App,
    auth::CurrentCaller,
    input::{Id, read_json},
    page::Page,
    problem::{Kind, Problem},
};

#[derive(Serialize)]
pub struct DeploymentView {
    name: String,
    provider: String,
    model: String,
    /// `ready`; `cooling`: it takes no calls until `until`; `probing`: one call finds out whether it answers again; `out`: it was
    /// taken out by hand.
    state: &'static str,
    /// The team whose calls it takes none of; null: of all.
    team: Option<String>,
    /// Why, as the ledger names the class of error.
    error_class: Option<ErrorClass>,
    reason: Option<String>,
    until: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cool {
    /// For how many seconds.
    #[serde(default = "an_hour")]
    for_s: u64,
}

fn an_hour() -> u64 {
    3_600
}

#[derive(Serialize)]
pub struct Cooled {
    name: String,
    until: DateTime<Utc>,
}

pub async fn list(State(app): State<App>) -> Json<Page<DeploymentView>> {
    let (catalog, now) = (app.engine.catalog.get(), app.engine.clock.now());
    let standings = app.engine.control.health.standings();
    let mut data = Vec::new();
    for (name, deployment) in &catalog.deployments {
        let view = || DeploymentView {
            name: name.to_string(),
            provider: deployment.spec.provider_name().to_owned(),
            model: deployment.spec.model.clone(),
            state: "ready",
            team: None,
            error_class: None,
            reason: None,
            until: None,
        };
        let before = data.len();
        let of_it = standings.iter().filter(|standing| *standing.deployment == **name);
        data.extend(of_it.map(|standing| shut(view(), standing, now)));
        if data.len() == before {
            data.push(view());
        }
    }
    data.sort_by(|a, b| (&a.name, &a.team).cmp(&(&b.name, &b.team)));
    Json(Page { data, next: None })
}

fn shut(view: DeploymentView, standing: &Standing, now: DateTime<Utc>) -> DeploymentView {
    let state = match standing.shut.class {
        None => "out",
        Some(_) if standing.is_probed || standing.shut.after.is_zero() => "probing",
        Some(_) => "cooling",
    };
    DeploymentView {
        state,
        team: standing.team.as_deref().map(str::to_owned),
        error_class: standing.shut.class,
        reason: Some(obstacle(&view.name, standing.shut).detail),
        until: TimeDelta::from_std(standing.shut.after).ok().filter(|_| state != "probing").map(|after| now + after),
        ..view
    }
}

pub async fn cool(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Id(name): Id<String>,
    body: Body,
) -> Result<Json<Cooled>, Problem> {
    let Cool { for_s } = read_json(body).await?;
    let until = by_hand::cool(&app.engine.control, &name, for_s, &caller.key_id).await.map_err(refused)?;
    info!(key.id = %caller.key_id, deployment = name, %until, "A deployment was taken out by hand");
    Ok(Json(Cooled { name, until }))
}

pub async fn release(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Id(name): Id<String>,
) -> Result<StatusCode, Problem> {
    by_hand::release(&app.engine.control, &name, &caller.key_id).await.map_err(refused)?;
    info!(key.id = %caller.key_id, deployment = name, "A deployment was released by hand");
    Ok(StatusCode::NO_CONTENT)
}

fn refused(error: OrderError) -> Problem {
    match error {
        OrderError::NotFound(name) => Problem::not_found(format_args!("deployment {name:?}")),
        OrderError::BadTime(_) => Problem::new(Kind::Invalid, error).with("param", "for_s"),
        OrderError::Unavailable(error) => error.into(),
    }
}
