//! What belongs to another team does not exist.

use domain::{JobId, Role};
use sqlx::PgPool;

use super::world::World;
use crate::{
    access::Access,
    router::{Route, routes},
};

#[sqlx::test(migrations = "../../migrations")]
async fn a_foreign_job_is_as_unknown_as_one_that_never_was(pool: PgPool) {
    let world = World::new(pool).await;
    let key = world.key("search", Role::Submit).await;
    let foreign = world.job("chat").await;
    let own = world.job("search").await;
    // What the role may not do at all is refused before anybody looks for the job.
    let may = |route: &Route| matches!(route.access, Access::Needs(permission) if permission.is_held_by(Role::Submit));
    for route in routes().into_iter().filter(|route| route.path.contains("/jobs/{id}") && may(route)) {
        for id in [foreign.to_string(), JobId(1).to_string(), "nonsense".to_owned(), "..%2F".to_owned()] {
            let answer = world.ask(route.method, &route.path.replace("{id}", &id), Some(&key), "").await;
            assert_eq!(answer.status, 404, "{} {} with {id}", route.method, route.path);
            assert_eq!(answer.json["code"], "not_found");
        }
    }
    let list = world.ask("GET", "/api/v1/jobs", Some(&key), "").await;
    let ids: Vec<&str> = list.json["data"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [own.to_string()]);
    let operator = world.key("search", Role::Operator).await;
    let list = world.ask("GET", "/api/v1/jobs?limit=1", Some(&operator), "").await;
    let next = list.json["next"].as_str().expect("there are two jobs");
    let rest = world.ask("GET", &format!("/api/v1/jobs?limit=1&cursor={next}"), Some(&operator), "").await;
    assert_ne!(list.json["data"][0]["id"], rest.json["data"][0]["id"]);
    assert_eq!(rest.json["next"], serde_json::Value::Null);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_key_sees_its_own_team_and_reports_on_it(pool: PgPool) {
    let world = World::new(pool).await;
    let key = world.key("search", Role::Read).await;
    world.team("chat").await;
    assert_eq!(world.ask("GET", "/api/v1/teams/search", Some(&key), "").await.json["name"], "search");
    assert_eq!(world.ask("GET", "/api/v1/teams/chat", Some(&key), "").await.status, 404);
    let list = world.ask("GET", "/api/v1/teams", Some(&key), "").await;
    assert_eq!(list.json["data"].as_array().unwrap().len(), 1);
    assert_eq!(world.ask("GET", "/api/v1/reports/spend?team=chat", Some(&key), "").await.status, 404);
    assert_eq!(world.ask("GET", "/api/v1/reports/spend?team=search", Some(&key), "").await.status, 200);
}
