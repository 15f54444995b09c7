//! Teams and keys through the API.

use domain::Role;
use sqlx::PgPool;

use super::world::World;

#[sqlx::test(migrations = "../../migrations")]
async fn a_key_is_made_used_and_revoked(pool: PgPool) {
    let world = World::new(pool).await;
    let admin = world.key("ops", Role::Admin).await;
    assert_eq!(world.ask("POST", "/api/v1/teams", Some(&admin), r#"{"name":"search"}"#).await.status, 201);
    let body = r#"{"team":"search","name":"ci","role":"submit","rpm":60}"#;
    let made = world.ask("POST", "/api/v1/keys", Some(&admin), body).await;
    assert_eq!((made.status, &made.json["team"], &made.json["rpm"]), (201, &"search".into(), &60.into()));
    assert_eq!(made.response.headers()["cache-control"], "no-store");
    let (id, key) = (made.json["id"].as_str().unwrap(), made.json["key"].as_str().unwrap());
    assert_eq!(made.response.headers()["location"], format!("/api/v1/keys/{id}"));
    let limits = world.ask("GET", "/api/v1/limits", Some(&admin), "").await;
    assert_eq!(limits.json["data"][0]["scope"], format!("key:{id}"), "{}", limits.json);

    assert_eq!(world.ask("GET", "/api/v1/jobs", Some(key), "").await.status, 200);
    let listed = world.ask("GET", "/api/v1/keys?team=search", Some(&admin), "").await;
    assert_eq!((&listed.json["data"][0]["id"], listed.json["data"][0].get("key")), (&made.json["id"], None));

    let revoked = world.ask("DELETE", &format!("/api/v1/keys/{id}"), Some(&admin), "").await;
    assert!(revoked.status == 200 && revoked.json["revoked_at"].is_string());
    assert_eq!(world.ask("GET", "/api/v1/jobs", Some(key), "").await.status, 401);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_disabled_team_is_refused_by_name(pool: PgPool) {
    let world = World::new(pool).await;
    let (admin, key) = (world.key("ops", Role::Admin).await, world.key("search", Role::Submit).await);
    assert_eq!(world.ask("GET", "/api/v1/jobs", Some(&key), "").await.status, 200);
    assert_eq!(world.ask("DELETE", "/api/v1/teams/search", Some(&admin), "").await.status, 200);
    let refused = world.ask("GET", "/api/v1/jobs", Some(&key), "").await;
    assert!(refused.status == 403 && refused.json["detail"].as_str().unwrap().contains("search"));
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_the_file_manages_is_not_edited(pool: PgPool) {
    let world = World::new(pool).await;
    let admin = world.key("ops", Role::Admin).await;
    for (method, path, body) in
        [("DELETE", "/api/v1/teams/filed", ""), ("POST", "/api/v1/teams", r#"{"name":"filed","weight":9}"#)]
    {
        let answer = world.ask(method, path, Some(&admin), body).await;
        assert_eq!((answer.status, &answer.json["code"]), (409, &"managed_by_file".into()), "{method}");
    }
    let twice = world.ask("POST", "/api/v1/teams", Some(&admin), r#"{"name":"ops"}"#).await;
    assert_eq!((twice.status, &twice.json["code"]), (409, &"conflict".into()));
}

#[sqlx::test(migrations = "../../migrations")]
async fn bad_input_is_named(pool: PgPool) {
    let world = World::new(pool).await;
    let admin = world.key("ops", Role::Admin).await;
    for (method, path, body, status, param) in [
        ("POST", "/api/v1/keys", r#"{"team":"none","name":"n","role":"submit"}"#, 422, "team"),
        ("POST", "/api/v1/keys", r#"{"team":"ops","name":"n","role":"submit","lanes":["night"]}"#, 422, "lanes"),
        ("POST", "/api/v1/teams", r#"{"name":"No"}"#, 422, "name"),
        ("GET", "/api/v1/jobs?state=done", "", 400, "state"),
        ("GET", "/api/v1/jobs?cursor=!", "", 400, "cursor"),
        ("POST", "/api/v1/jobs?priority=high", "", 400, "priority"),
        ("GET", "/api/v1/reports/spend?from=monday", "", 400, "from"),
    ] {
        let answer = world.ask(method, path, Some(&admin), body).await;
        assert_eq!((answer.status, &answer.json["param"]), (status, &param.into()), "{method} {path} {body}");
    }
    for (path, body) in [("/api/v1/keys", "{"), ("/api/v1/teams", r#"{"name":"x","wieght":1}"#)] {
        let answer = world.ask("POST", path, Some(&admin), body).await;
        assert_eq!(answer.status, 400, "{body}");
    }
    assert_eq!(world.ask("GET", "/api/v1/jobs?sate=queued", Some(&admin), "").await.status, 400);
    let line = world.ask("POST", "/api/v1/jobs", Some(&admin), "{\"custom_id\":\"a\"}\n").await;
    assert_eq!((line.status, &line.json["code"], &line.json["line"]), (422, &"bad_line".into(), &1.into()));
    let model = r#"{"model":"gpt-9","messages":[]}"#;
    let unknown = world.ask("POST", "/v1/chat/completions", Some(&admin), model).await;
    assert_eq!((unknown.status, &unknown.json["error"]["code"]), (404, &"model_not_found".into()));
}
