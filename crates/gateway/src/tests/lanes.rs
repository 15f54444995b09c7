//! Lanes through the API.

use domain::Role;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::world::{Answer, World};

struct Asked {
    world: World,
    key: String,
}

impl Asked {
    async fn new(world: World) -> Self {
        let key = world.key("ops", Role::Admin).await;
        Self { world, key }
    }
    async fn put(&self, lane: &str, rule: Value) -> Answer {
        self.world.ask("PUT", &format!("/api/v1/lanes/{lane}"), Some(&self.key), &rule.to_string()).await
    }
    async fn delete(&self, lane: &str) -> Answer {
        self.world.ask("DELETE", &format!("/api/v1/lanes/{lane}"), Some(&self.key), "").await
    }
    /// `name managed_by weight` of each.
    async fn lanes(&self) -> Vec<String> {
        let list = self.world.ask("GET", "/api/v1/lanes", Some(&self.key), "").await.json;
        let lane =
            |lane: &Value| format!("{} {} {}", lane["name"], lane["managed_by"], lane["weight"]).replace('"', "");
        list["data"].as_array().unwrap().iter().map(lane).collect()
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_lane_is_declared_changed_and_removed_while_all_runs(pool: PgPool) {
    let asked = Asked::new(World::with_default_lanes(pool).await).await;
    let rule = json!({"class": "weighted", "weight": 2, "max_percent": 50, "deadline_s": 3600, "max_attempts": 2});
    let made = asked.put("night", rule).await;
    assert_eq!((made.status, &made.json["max_percent"], &made.json["deadline_s"]), (200, &json!(50), &json!(3600)));
    assert_eq!(asked.put("bulk", json!({"class": "weighted", "weight": 3})).await.status, 200);
    assert_eq!(asked.lanes().await, ["prod default 1", "standard default 4", "bulk api 3", "night api 2"]);
    let engine = &asked.world.app.engine;
    assert_eq!(engine.catalog.get().lanes[&"night".parse().unwrap()].max_attempts, Some(2));
    // One of those by default goes too, unless a key names it; the test's own keys do.
    let refused = asked.delete("standard").await;
    assert_eq!((refused.status, &refused.json["code"]), (409, &json!("conflict")));
    assert!(refused.json["keys"].as_array().is_some_and(|keys| keys.len() == 1), "{}", refused.json);
    assert_eq!(asked.delete("night").await.status, 204);
    assert_eq!(asked.delete("night").await.status, 404);
    assert_eq!(asked.delete("prod").await.status, 204);
    assert_eq!(asked.lanes().await, ["standard default 4", "bulk api 3"]);
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_cannot_be_is_refused_and_changes_nothing(pool: PgPool) {
    let asked = Asked::new(World::with_default_lanes(pool).await).await;
    let before = asked.lanes().await;
    for (rule, status, param) in [
        (json!({"class": "weighted", "weight": 0}), 422, json!("weight")),
        (json!({"class": "strict", "reserve_percent": 81}), 422, json!("reserve_percent")),
        (json!({"class": "strict", "reserve_percent": 20, "max_percent": 10}), 422, json!("max_percent")),
        (json!({"class": "weighted", "max_attempts": 0}), 422, json!("max_attempts")),
        (json!({"class": "urgent"}), 400, json!("class")),
        (json!({"class": "weighted", "wieght": 1}), 400, json!("wieght")),
    ] {
        let refused = asked.put("night", rule.clone()).await;
        assert_eq!((refused.status, &refused.json["param"]), (status, &param), "{rule}: {}", refused.json);
    }
    assert_eq!(asked.put("No%20Lane", json!({"class": "strict"})).await.status, 404);
    assert_eq!(asked.lanes().await, before);
    let versions: i64 =
        sqlx::query_scalar("select count(*) from config_version").fetch_one(&asked.world.pool).await.unwrap();
    assert_eq!(versions, 1);
}

/// What waits in a removed lane is served as before, and nothing new comes in. Then the lane goes.
#[sqlx::test(migrations = "../../migrations")]
async fn a_removed_lane_closes_and_goes_once_it_is_empty(pool: PgPool) {
    let asked = Asked::new(World::with_default_lanes(pool).await).await;
    let rule = json!({"class": "strict", "weight": 2, "reserve_percent": 20, "max_percent": 50, "max_attempts": 2});
    asked.put("night", rule).await;
    let slots = json!({"scope": "deployment:sim", "kind": "slots", "cap": 100}).to_string();
    assert_eq!(asked.world.ask("PUT", "/api/v1/limits", Some(&asked.key), &slots).await.status, 200);
    let of_night = async || {
        let limits = asked.world.ask("GET", "/api/v1/limits", Some(&asked.key), "").await.json;
        let of = |limit: &&Value| limit["scope"].as_str().is_some_and(|scope| scope.ends_with(":night"));
        limits["data"].as_array().unwrap().iter().filter(of).count()
    };
    assert_eq!(of_night().await, 2, "its reserve and its most of the deployment");
    let (team, pool) = (asked.world.team("search").await.team_id, &asked.world.pool);
    let job =
        "insert into job (job_id, team_id, key_id, lane, state, accepted) values (1, $1, 'k', 'night', 'paused', 9)";
    sqlx::query(job).bind(team).execute(pool).await.unwrap();
    let flow = "insert into flow (flow_id, job_id, team_id, lane, route, endpoint, key_id, priority, tail_pos, max_in, max_attempts)
                values (1, 1, $1, 'night', 'r', 1, 'k', 0, 9, 1, 5)";
    sqlx::query(flow).bind(team).execute(pool).await.unwrap();
    assert_eq!(asked.delete("night").await.status, 204);

    let catalog = asked.world.app.engine.catalog.get();
    let rule = &catalog.lanes[&"night".parse().unwrap()];
    assert_eq!((rule.closed, rule.reserve_percent, rule.weight, rule.max_attempts), (true, 0, 2, Some(2)));
    assert_eq!(asked.lanes().await.first().map(String::as_str), Some("night null 2"));
    let list = asked.world.ask("GET", "/api/v1/lanes", Some(&asked.key), "").await.json;
    assert_eq!((&list["data"][0]["state"], &list["data"][1]["state"]), (&json!("closing"), &json!("open")), "{list}");
    let key = json!({"team": "search", "name": "ci", "role": "submit", "lanes": ["night"]}).to_string();
    assert_eq!(asked.world.ask("POST", "/api/v1/keys", Some(&asked.key), &key).await.status, 422);
    assert_eq!(asked.delete("night").await.status, 404, "it was removed already");

    let sweep = async || {
        engine::lanes::forget_drained(&asked.world.app.engine).await.unwrap();
        asked.world.app.engine.catalog.get().lanes.contains_key(&"night".parse().unwrap())
    };
    sqlx::query("update config_version set applied_at = now() - interval '2 minutes'").execute(pool).await.unwrap();
    assert!(sweep().await, "it went with work in it");
    sqlx::query("delete from flow").execute(pool).await.unwrap();
    sqlx::query("update job set state = 'completed', finished_at = now()").execute(pool).await.unwrap();
    sqlx::query("update config_version set applied_at = now()").execute(pool).await.unwrap();
    assert!(sweep().await, "a replica may not have heard of its end yet");
    sqlx::query("update config_version set applied_at = now() - interval '2 minutes'").execute(pool).await.unwrap();
    assert_eq!(of_night().await, 1, "its most; its reserve is the others'");
    assert!(!sweep().await, "nothing is left in it");
    assert_eq!(of_night().await, 0);
    let audit = asked.world.ask("GET", "/api/v1/audit?object=lane:night", Some(&asked.key), "").await.json;
    assert_eq!((&audit["data"][0]["action"], &audit["data"][0]["key_id"]), (&json!("remove"), &Value::Null), "{audit}");
}

/// Such as an earlier version stranded.
#[sqlx::test(migrations = "../../migrations")]
async fn work_in_a_lane_that_nobody_knows_is_taken_up(pool: PgPool) {
    let asked = Asked::new(World::new(pool).await).await;
    let (team, pool) = (asked.world.team("search").await.team_id, &asked.world.pool);
    for lane in ["old", "idle"] {
        sqlx::query("insert into share (lane, team_id) values ($1, $2)")
            .bind(lane)
            .bind(team)
            .execute(pool)
            .await
            .unwrap();
    }
    let flow = "insert into flow (flow_id, job_id, team_id, lane, route, endpoint, key_id, priority, tail_pos, max_in, max_attempts)
                values (1, 1, $1, 'old', 'r', 1, 'k', 0, 9, 1, 5)";
    sqlx::query(flow).bind(team).execute(pool).await.unwrap();
    sqlx::query("update config_version set applied_at = now() - interval '2 minutes'").execute(pool).await.unwrap();
    engine::lanes::forget_drained(&asked.world.app.engine).await.unwrap();
    assert_eq!(asked.lanes().await, ["prod file 1", "standard file 4", "bulk file 1", "old null 1"]);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_closed_lane_is_declared_and_takes_nothing_new(pool: PgPool) {
    let asked = Asked::new(World::new(pool).await).await;
    let made = asked.put("night", json!({"class": "weighted", "closed": true})).await;
    assert_eq!((made.status, &made.json["state"], &made.json["managed_by"]), (200, &json!("closed"), &json!("api")));
    let made = asked.put("night", json!({"class": "weighted"})).await;
    assert_eq!((&made.json["state"], &made.json["closed"]), (&json!("open"), &json!(false)));
}

/// The file declares the three that the world starts with.
#[sqlx::test(migrations = "../../migrations")]
async fn the_files_lanes_are_not_edited_and_others_stand_beside_them(pool: PgPool) {
    let asked = Asked::new(World::new(pool).await).await;
    for refused in [asked.put("bulk", json!({"class": "strict"})).await, asked.delete("prod").await] {
        assert_eq!((refused.status, &refused.json["code"]), (409, &json!("managed_by_file")));
    }
    assert_eq!(asked.put("night", json!({"class": "weighted"})).await.status, 200);
    assert_eq!(asked.lanes().await, ["prod file 1", "standard file 4", "bulk file 1", "night api 1"]);
}

/// The same file, applied again by a replica that starts, leaves the API's lane alone.
#[sqlx::test(migrations = "../../migrations")]
async fn a_restart_keeps_the_apis_lanes(pool: PgPool) {
    let asked = Asked::new(World::new(pool.clone()).await).await;
    assert_eq!(asked.put("night", json!({"class": "weighted"})).await.status, 200);
    let version = asked.world.app.engine.catalog.get().version;
    let again = World::new(pool).await;
    assert_eq!(again.app.engine.catalog.get().version, version);
    assert!(again.app.engine.catalog.get().lanes.contains_key(&"night".parse().unwrap()));
}

#[sqlx::test(migrations = "../../migrations")]
async fn the_head_of_a_lane_says_why_it_waits(pool: PgPool) {
    let asked = Asked::new(World::new(pool).await).await;
    let team = asked.world.team("search").await.team_id;
    let id = domain::JobId::new(chrono::Utc::now());
    let job =
        "insert into job (job_id, team_id, key_id, lane, state, accepted) values ($1, $2, 'k', 'bulk', 'queued', 9)";
    sqlx::query(job).bind(id.0).bind(team).execute(&asked.world.pool).await.unwrap();
    let flow = "insert into flow (flow_id, job_id, team_id, lane, route, endpoint, key_id, priority, tail_pos, max_in, max_attempts)
                values ($1, $1, $2, 'bulk', 'r', 1, 'k', 0, 9, 1, 5)";
    sqlx::query(flow).bind(id.0).bind(team).execute(&asked.world.pool).await.unwrap();
    let worker = "insert into worker (worker_id, host, roles, slots, lease_until)
                  values (7, 'h', '{worker}', 40, now() + interval '1 minute')";
    let as_it_is = "select 1";
    for (change, lane_says, job_says) in [
        (as_it_is, "no_worker", "no_worker"),
        (worker, "no_slot", "no_slot"),
        ("update flow set blocked_reason = 'team_limit limit slots of team:search'", "team_limit", "team_limit"),
        (
            "update flow set blocked_reason = 'provider_cooling provider a cools down'",
            "provider_cooling",
            "provider_cooling",
        ),
        ("update flow set start_at = now() + interval '1 hour'", "scheduled", "scheduled"),
        ("update flow set state = 'paused'", "paused", "paused"),
        (
            "with gone as (insert into retry (flow_id, pos, epoch, attempt_no, failures, due_at)
                           select flow_id, 1, 1, 1, 1, now() + interval '1 minute' from flow)
             update flow set state = 'ready', start_at = null, next_pos = tail_pos",
            "retry",
            "retry",
        ),
        ("delete from retry", "null", "null"),
    ] {
        sqlx::query(change).execute(&asked.world.pool).await.unwrap();
        let lanes = asked.world.ask("GET", "/api/v1/lanes", Some(&asked.key), "").await.json;
        let bulk = lanes["data"].as_array().unwrap().iter().find(|lane| lane["name"] == "bulk").unwrap();
        let shown = asked.world.ask("GET", &format!("/api/v1/jobs/{id}"), Some(&asked.key), "").await.json;
        let said = |value: &Value| value["waits"].get("reason").unwrap_or(&Value::Null).to_string().replace('"', "");
        assert_eq!((said(bulk), said(&shown)), (lane_says.to_owned(), job_says.to_owned()), "{change}");
        assert_eq!(shown["waiting_reason"].is_null(), matches!(job_says, "no_slot" | "null"), "{change}");
        if change == worker {
            assert_eq!(
                (&bulk["slots"], &bulk["max_slots"], &bulk["oldest_at"].is_string()),
                (&json!(40), &json!(40), &true)
            );
            assert_eq!(lanes["data"][0]["reserve_slots"], 4, "{lanes}");
        }
    }
}
