//! Charges that are set right, budgets that hold everywhere, and teams' webhook secrets, through the API.

use domain::Role;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::world::World;

#[sqlx::test(migrations = "../../migrations")]
async fn a_change_of_a_budget_says_since_when_each_replica_holds_it(pool: PgPool) {
    let world = World::new(pool.clone()).await;
    let key = world.key("ops", Role::Admin).await;
    let mut conn = pool.acquire().await.unwrap();
    let lease = std::time::Duration::from_secs(30);
    store::worker::register(&mut conn, 1, "here", &["api".to_owned()], 0, lease).await.unwrap();
    let budget = json!({"limit_usd": "10", "window": "day"}).to_string();
    let made = world.ask("PUT", "/api/v1/budgets/b", Some(&key), &budget).await;
    assert_eq!((made.status, &made.json["in_force"]["everywhere"]), (200, &json!(true)), "{}", made.json);
    assert!(made.json["in_force"]["since"].is_string(), "{}", made.json);
    assert_eq!(made.json["in_force"]["replicas"][0]["holds"], true);
    let one = world.ask("GET", "/api/v1/budgets/b", Some(&key), "").await;
    assert_eq!(one.json["in_force"], made.json["in_force"]);
    let in_berlin = json!({"limit_usd": "10", "window": "day", "time_zone": "Europe/Berlin"}).to_string();
    assert_eq!(world.ask("PUT", "/api/v1/budgets/berlin", Some(&key), &in_berlin).await.status, 200, "another day");
    let twin = world.ask("PUT", "/api/v1/budgets/twin", Some(&key), &in_berlin).await;
    assert_eq!((twin.status, &twin.json["budget"]), (409, &json!("berlin")));
}

async fn call(pool: &PgPool, cost: i64) -> domain::LedgerRow {
    let now = chrono::Utc::now();
    let id = uuid::Uuid::now_v7();
    let row: domain::LedgerRow = serde_json::from_value(json!({
        "attempt_id": id, "request_id": format!("req_{}", id.simple()), "attempt_no": 1, "attempt_reason": "primary",
        "is_final": true, "record_kind": "original", "requested_at": now, "completed_at": now, "recorded_at": now,
        "usage_date": now.date_naive(), "reserved_at": now, "team": "ops", "environment": "production",
        "feature": "unattributed", "worker_id": 3, "provider": "openai", "deployment": "sim", "model_requested": "m",
        "model_billed": "m", "processing": "sync", "lane": "prod", "status": "succeeded", "billable": true,
        "cache_hit": false, "reserved": 1_000_000, "contracted_cost": cost, "price_status": "priced",
    }))
    .unwrap();
    let mut tx = pool.begin().await.unwrap();
    store::ledger::insert(&mut tx, &[&row]).await.unwrap();
    tx.commit().await.unwrap();
    row
}

#[sqlx::test(migrations = "../../migrations")]
async fn an_operator_corrects_a_charge_and_nobody_else_does(pool: PgPool) {
    let world = World::new(pool.clone()).await;
    let row = call(&pool, 2_000_000_000_000).await;
    let path = format!("/api/v1/ledger/{}/correct", row.attempt_id);
    for role in [Role::Submit, Role::Read, Role::Finance] {
        let key = world.key("ops", role).await;
        assert_eq!(world.ask("POST", &path, Some(&key), r#"{"void":true}"#).await.status, 403, "{role:?}");
    }
    let key = world.key("ops", Role::Operator).await;
    let body = r#"{"cost_usd":"0.5","reason":"invoice 7"}"#;
    let done = world.ask("POST", &path, Some(&key), body).await;
    assert_eq!(
        (done.status, &done.json["cost_was_usd"], &done.json["cost_usd"]),
        (200, &json!("2.00"), &json!("0.50"))
    );
    assert!(done.json["correction_id"].is_string(), "{}", done.json);
    assert_eq!(world.ask("POST", &path, Some(&key), body).await.json["correction_id"], Value::Null);
    let shown = world.ask("GET", &format!("/api/v1/calls/{}", row.request_id), Some(&key), "").await;
    assert_eq!(shown.json["cost_usd"], "0.50", "{}", shown.json);
    for (body, status) in [
        ("{}", 422),
        (r#"{"void":true,"cost_usd":"1"}"#, 422),
        (r#"{"void":false}"#, 422),
        (r#"{"cost_usd":"-1"}"#, 422),
        (r#"{"cost_usd":"99999999999999"}"#, 422),
        (r#"{"usage":{"output_text":5}}"#, 422),
        (r#"{"usage":{"input_uncached":-5}}"#, 400),
        (r#"{"usage":{"tokens":5}}"#, 400),
        (r#"{"void":true,"reason":"\u0000"}"#, 400),
        ("[true]", 400),
    ] {
        let answer = world.ask("POST", &path, Some(&key), body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.json);
    }
    for id in ["00000000-0000-0000-0000-000000000000", "req_none", "x"] {
        let answer = world.ask("POST", &format!("/api/v1/ledger/{id}/correct"), Some(&key), r#"{"void":true}"#).await;
        assert_eq!(answer.status, 404, "{id}: {}", answer.json);
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_budget_that_was_overrun_names_the_calls_that_did_it(pool: PgPool) {
    let world = World::new(pool.clone()).await;
    let key = world.key("ops", Role::Admin).await;
    for cost in [400_000_000_000, 500_000_000_000, 76_800_000_000, 300_000_000_000] {
        call(&pool, cost).await;
    }
    let budget = json!({"limit_usd": "0.95", "window": "day"}).to_string();
    assert_eq!(world.ask("PUT", "/api/v1/budgets/b", Some(&key), &budget).await.status, 200);
    let shown = world.ask("GET", "/api/v1/budgets?verify=true", Some(&key), "").await;
    let verified = &shown.json["data"][0]["verified"];
    assert_eq!((&verified["equal"], &verified["over"]["by"]), (&json!(true), &json!("0.3268")), "{verified}");
    let charged: Vec<&Value> =
        verified["over"]["calls"].as_array().unwrap().iter().map(|call| &call["charged"]).collect();
    assert_eq!(charged, [&json!("0.30"), &json!("0.0768")], "the largest first");
    assert_eq!(verified["over"]["calls"][0]["held"], "0.000001");
    let roomy = json!({"limit_usd": "5", "window": "day"}).to_string();
    world.ask("PUT", "/api/v1/budgets/b", Some(&key), &roomy).await;
    let shown = world.ask("GET", "/api/v1/budgets?verify=true", Some(&key), "").await;
    assert_eq!(shown.json["data"][0]["verified"]["over"], Value::Null);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_team_gets_its_webhook_secret_once_and_turns_it(pool: PgPool) {
    let world = World::new(pool).await;
    let path = "/api/v1/teams/search/webhook-secret";
    let key = world.key("search", Role::Submit).await;
    let made = world.ask("POST", path, Some(&key), "").await;
    assert_eq!((made.status, made.response.headers()["cache-control"].to_str().unwrap()), (201, "no-store"));
    assert!(made.json["secret"].as_str().unwrap().starts_with("whsec_"), "{}", made.json);
    assert_eq!(world.ask("POST", path, Some(&key), "").await.status, 409);
    let turned = world.ask("POST", path, Some(&key), r#"{"rotate":true,"overlap_s":60}"#).await;
    assert_eq!((turned.status, turned.json["active"].as_array().unwrap().len()), (201, 2), "{}", turned.json);
    assert_ne!(turned.json["secret"], made.json["secret"]);
    let listed = world.ask("GET", path, Some(&key), "").await;
    assert_eq!(listed.json["data"][0]["id"], turned.json["id"]);
    assert!(!listed.json.to_string().contains("whsec_") && !listed.json.to_string().contains("sealed"));
    let others = world.key("other", Role::Submit).await;
    let admin = world.key("ops", Role::Admin).await;
    for (key, path, status) in [
        (&others, path, 404),
        (&world.key("search", Role::Read).await, path, 403),
        (&world.key("search", Role::Operator).await, path, 403),
        (&admin, "/api/v1/teams/none/webhook-secret", 404),
        (&admin, "/api/v1/teams/other/webhook-secret", 201),
    ] {
        assert_eq!(world.ask("POST", path, Some(key), "").await.status, status, "{path}");
    }
    let long = world.ask("POST", path, Some(&key), r#"{"rotate":true,"overlap_s":99999999999}"#).await;
    assert_eq!((long.status, &long.json["param"]), (422, &json!("overlap_s")));
    let audit = world.ask("GET", "/api/v1/audit", Some(&admin), "").await;
    assert!(audit.json["data"].as_array().unwrap().iter().any(|line| line["action"] == "rotate"));
    assert!(!audit.json.to_string().contains("whsec_"));
}
