//! `/v1/models`: the routes, by the names that callers write as `model`.

use admission::catalog::ActiveRoute;
use axum::{Json, extract::State};
use serde::Serialize;

use super::Failure;
use crate::{
    App,
    input::Id,
    problem::{Kind, Problem},
};

#[derive(Serialize)]
pub struct Model {
    id: String,
    object: &'static str,
    /// Seconds since 1970. Routes have no birthday that would mean anything; OpenAI's clients want a number.
    created: i64,
    owned_by: String,
}

#[derive(Serialize)]
pub struct Models {
    object: &'static str,
    data: Vec<Model>,
}

pub async fn list_models(State(app): State<App>) -> Json<Models> {
    let catalog = app.engine.catalog.get();
    let mut data: Vec<Model> = catalog.routes.values().map(|route| Model::of(route)).collect();
    data.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    Json(Models { object: "list", data })
}

pub async fn get_model(State(app): State<App>, Id(name): Id<String>) -> Result<Json<Model>, Failure> {
    let catalog = app.engine.catalog.get();
    match catalog.route(&name) {
        Some(route) => Ok(Json(Model::of(route))),
        None => Err(unknown_model(&name).into()),
    }
}

pub fn unknown_model(name: &str) -> Problem {
    let shown: String = name.chars().take(64).collect();
    Problem::new(Kind::UnknownModel, format_args!("There is no model {shown:?}; GET /v1/models lists them."))
        .with("param", "model")
}

impl Model {
    fn of(route: &ActiveRoute) -> Self {
        let owner = route.deployments.first().map_or("tollway", |first| first.spec.provider_name());
        Self { id: route.name.to_string(), object: "model", created: 0, owned_by: owner.to_owned() }
    }
}
