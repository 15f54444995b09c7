//! Budgets through the API.

use domain::Role;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::world::{Answer, World};

async fn put(world: &World, key: &str, name: &str, budget: Value) -> Answer {
    world.ask("PUT", &format!("/api/v1/budgets/{name}"), Some(key), &budget.to_string()).await
}

#[sqlx::test(migrations = "../../migrations")]
async fn budgets_are_declared_changed_shown_and_removed(pool: PgPool) {
    let world = World::new(pool).await;
    let key = world.key("ops", Role::Admin).await;
    let budget = |usd: &str| json!({"scope": {"team": "ops"}, "limit_usd": usd, "window": "month", "soft": true});
    let made = put(&world, &key, "ops-month", budget("10")).await;
    assert_eq!(made.status, 200, "{}", made.json);
    for (field, expected) in [
        ("name", json!("ops-month")),
        ("scope", json!({"team": "ops"})),
        ("limit_usd", json!("10.00")),
        ("window", json!("month")),
        ("policy", json!("alert")),
        ("thresholds", json!([50, 80, 100])),
        ("managed_by", json!("api")),
        ("left", json!("10.00")),
        ("spent", json!("0.00")),
        ("counted", json!(true)),
    ] {
        assert_eq!(made.json[field], expected, "{field}");
    }
    let changed = put(&world, &key, "ops-month", budget("20")).await;
    assert_eq!(changed.json["left"], "20.00", "{}", changed.json);
    let finance = world.key("ops", Role::Finance).await;
    let list = world.ask("GET", "/api/v1/budgets?verify=true", Some(&finance), "").await;
    assert_eq!((list.status, list.json["data"].as_array().map(Vec::len)), (200, Some(1)), "{}", list.json);
    assert_eq!(list.json["data"][0]["verified"]["equal"], true, "{}", list.json);
    assert_eq!(put(&world, &finance, "ops-month", budget("1")).await.status, 403);
    for expected in [204, 404] {
        let gone = world.ask("DELETE", "/api/v1/budgets/ops-month", Some(&key), "").await;
        assert_eq!(gone.status, expected);
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_cannot_be_declared_is_refused_with_the_reason(pool: PgPool) {
    let world = World::new(pool).await;
    let key = world.key("ops", Role::Admin).await;
    assert_eq!(put(&world, &key, "first", json!({"limit_usd": "5", "window": "day"})).await.status, 200);
    for (name, budget, status, param, part) in [
        ("a", json!({"limit_usd": "0", "window": "day"}), 422, "limit_usd", "above zero"),
        ("a", json!({"limit_tokens": -1, "window": "day"}), 422, "limit_tokens", "above zero"),
        ("A", json!({"limit_tokens": 1, "window": "day"}), 422, "name", "characters"),
        ("a", json!({"scope": {"team": "opps"}, "limit_tokens": 1, "window": "day"}), 422, "scope.team", "opps"),
        ("a", json!({"limit_tokens": 1, "window": "day", "thresholds": [120]}), 422, "thresholds", "not soft"),
        ("a", json!({"limit_usd": "7", "window": "day"}), 409, "", "budget first"),
        ("a", json!({"limit_usd": "7", "window": "year"}), 400, "window", "is not a window; use hour, day"),
        ("a", json!({"scope": {"tags": {"": "x"}}, "limit_usd": "7", "window": "day"}), 422, "scope", "a tag's key"),
        (
            "a",
            json!({"scope": {"tags": {"team": "ops"}}, "limit_usd": "7", "window": "day"}),
            422,
            "scope.tags",
            "scope.team",
        ),
        (
            "a",
            json!({"scope": {"tem": "ops"}, "limit_usd": "7", "window": "day"}),
            400,
            "scope.tem",
            "unknown field `tem`",
        ),
        ("a", json!({"limit_usd": "7", "window": "day", "time_zone": "Mars/Olympus"}), 400, "time_zone", "time zone"),
    ] {
        let answer = put(&world, &key, name, budget.clone()).await;
        assert_eq!(answer.status, status, "{budget}: {}", answer.json);
        assert_eq!(answer.json["param"].as_str().unwrap_or_default(), param, "{}", answer.json);
        assert!(answer.json["detail"].as_str().is_some_and(|detail| detail.contains(part)), "{}", answer.json);
    }
}
