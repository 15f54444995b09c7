//! Every route with every role, asked for real: what the golden table says is what happens.

use domain::{JobId, Role};
use sqlx::PgPool;

use super::world::World;
use crate::{access::Access, router::routes};

/// A path of this route that names nothing that exists.
fn path(route: &str) -> String {
    let id = if route.contains("/jobs/") { JobId(1).to_string() } else { "nothing".to_owned() };
    route.replace("{id}", &id).replace("{*id}", &id)
}

#[sqlx::test(migrations = "../../migrations")]
async fn each_role_passes_where_it_may_and_nowhere_else(pool: PgPool) {
    let world = World::new(pool).await;
    for role in Role::ALL {
        let key = world.key("search", role).await;
        for route in routes() {
            let answer = world.ask(route.method, &path(route.path), Some(&key), "").await;
            let may = match route.access {
                Access::Open => true,
                Access::Needs(permission) => permission.is_held_by(role),
            };
            let case = format!("{} {} as {}: {}", route.method, route.path, role.as_str(), answer.status);
            assert_eq!(answer.status == 403, !may, "{case}");
            assert!(answer.status != 401 && answer.status != 500, "{case}");
        }
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn without_a_key_there_is_health_and_nothing_else(pool: PgPool) {
    let world = World::new(pool).await;
    for route in routes() {
        // A new one each time: the same again and again would be throttled.
        let unknown = engine::admit::mint(&[1; 32]);
        for key in [None, Some("tw_nonsense"), Some(unknown.key.expose())] {
            let answer = world.ask(route.method, &path(route.path), key, "").await;
            let is_open = route.access == Access::Open;
            assert_eq!(answer.status == 401, !is_open, "{} {}: {}", route.method, route.path, answer.status);
            if is_open {
                continue;
            }
            assert_eq!(answer.response.headers()["www-authenticate"], "Bearer");
            let is_openai = route.path.starts_with("/v1/");
            let code = if is_openai { &answer.json["error"]["code"] } else { &answer.json["code"] };
            assert_eq!(code, if is_openai { "invalid_api_key" } else { "unauthorized" });
            let content_type = if is_openai { "application/json" } else { "application/problem+json" };
            assert_eq!(answer.content_type, content_type);
        }
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_is_no_route_says_so_in_the_right_form(pool: PgPool) {
    let world = World::new(pool).await;
    assert_eq!(world.ask("GET", "/api/v2/jobs", None, "").await.json["code"], "not_found");
    assert_eq!(world.ask("PUT", "/api/v1/jobs", None, "").await.json["code"], "method_not_allowed");
    assert_eq!(world.ask("GET", "/v1/files", None, "").await.json["error"]["type"], "invalid_request_error");
    assert_eq!(world.ask("GET", "/readyz", None, "").await.json["status"], "ready");
    assert_eq!(world.ask("GET", "/livez", None, "").await.status, 200);
    world.app.leaving.cancel();
    assert_eq!(world.ask("GET", "/readyz", None, "").await.status, 503);
    assert_eq!(world.ask("GET", "/livez", None, "").await.status, 200);
}
