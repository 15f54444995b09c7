//! Limits through the API.

use admission::limits::Kind;
use domain::{
    Catalog, Role,
    catalog::{Caps, TeamRule},
};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::world::{Answer, World};

async fn put(world: &World, key: &str, scope: &str, kind: &str, cap: i64) -> Answer {
    let body = json!({"scope": scope, "kind": kind, "cap": cap}).to_string();
    world.ask("PUT", "/api/v1/limits", Some(key), &body).await
}

async fn remove(world: &World, key: &str, scope: &str, kind: &str) -> u16 {
    world.ask("DELETE", &format!("/api/v1/limits?scope={scope}&kind={kind}"), Some(key), "").await.status
}

/// `scope kind cap` of each that the API manages.
async fn limits(world: &World, key: &str) -> Vec<String> {
    let list = world.ask("GET", "/api/v1/limits", Some(key), "").await.json;
    let row = |limit: &Value| format!("{} {} {}", limit["scope"], limit["kind"], limit["cap"]).replace('"', "");
    list["data"].as_array().unwrap().iter().filter(|limit| limit["managed_by"] == "api").map(row).collect()
}

#[sqlx::test(migrations = "../../migrations")]
async fn limits_are_set_changed_and_removed_while_all_runs(pool: PgPool) {
    let world = World::new(pool).await;
    let key = world.key("ops", Role::Admin).await;
    let team = world.team("search").await.team_id;
    let id = world.ask("GET", "/api/v1/keys", Some(&key), "").await.json["data"][0]["id"].as_str().unwrap().to_owned();
    for (scope, kind, cap) in [
        ("team:search", "slots", 10),
        ("lane:bulk:team:search", "slots", 4),
        (&format!("key:{id}"), "rpm", 60),
        ("team:search", "pending_bytes", 1 << 30),
        ("deployment:sim", "slots", 10),
    ] {
        let answer = put(&world, &key, scope, kind, cap).await;
        assert_eq!((answer.status, &answer.json["cap"]), (200, &json!(cap)), "{scope}: {}", answer.json);
    }
    // Nine tenths of a deployment are for lanes without a reserve.
    let shown = [
        "deployment:sim slots 10".to_owned(),
        "deployment:sim:reserve:prod slots 1".to_owned(),
        "deployment:sim:shared slots 9".to_owned(),
        format!("key:{id} rpm 60"),
        "lane:bulk:team:search slots 4".to_owned(),
        "team:search pending_bytes 1073741824".to_owned(),
        "team:search slots 10".to_owned(),
    ];
    assert_eq!(limits(&world, &key).await, shown);
    let scope = format!("team:{team}");
    assert_eq!(world.app.engine.control.limits.cap(&scope, Kind::Slots), Some(10), "this replica follows at once");
    put(&world, &key, "team:search", "slots", 5).await;
    assert_eq!(world.app.engine.control.limits.cap(&scope, Kind::Slots), Some(5));
    let keys = world.ask("GET", &format!("/api/v1/keys/{id}"), Some(&key), "").await.json;
    assert_eq!(keys["rpm"], 60);
    for (scope, kind) in [("team:search", "slots"), (&format!("key:{id}"), "rpm"), ("deployment:sim", "slots")] {
        assert_eq!(remove(&world, &key, scope, kind).await, 204);
        assert_eq!(remove(&world, &key, scope, kind).await, 404);
    }
    assert_eq!(limits(&world, &key).await.len(), 2);
    assert_eq!(world.app.engine.control.limits.cap(&scope, Kind::Slots), None);
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_contradicts_is_refused_and_changes_nothing(pool: PgPool) {
    let world = World::new(pool).await;
    let key = world.key("ops", Role::Admin).await;
    world.team("search").await;
    put(&world, &key, "team:search", "slots", 10).await;
    put(&world, &key, "lane:bulk:team:search", "slots", 6).await;
    let before = limits(&world, &key).await;
    for (scope, kind, cap, status, param) in [
        ("lane:bulk:team:search", "slots", 11, 422, "cap"),
        ("team:search", "slots", 5, 422, "cap"),
        ("team:search", "slots", 0, 422, "cap"),
        ("team:search", "rpm", -1, 422, "cap"),
        ("team:search", "money", 5, 422, "kind"),
        ("key:abcdefghijkl", "pending_bytes", 5, 422, "kind"),
        ("everyone", "slots", 5, 422, "scope"),
    ] {
        let refused = put(&world, &key, scope, kind, cap).await;
        assert_eq!((refused.status, &refused.json["param"]), (status, &json!(param)), "{scope} {kind} {cap}");
    }
    for scope in ["team:nobody", "lane:night:team:search", "key:abcdefghijkl", "deployment:none"] {
        assert_eq!(put(&world, &key, scope, "slots", 5).await.status, 404, "{scope}");
    }
    assert_eq!(limits(&world, &key).await, before);
    let detail = put(&world, &key, "team:search", "slots", 5).await.json["detail"].to_string();
    assert!(detail.contains("slots 6 of lane:bulk:team:search"), "{detail}");
}

#[sqlx::test(migrations = "../../migrations")]
async fn the_files_limits_are_not_edited(pool: PgPool) {
    let world = World::new(pool).await;
    let key = world.key("ops", Role::Admin).await;
    let refused = put(&world, &key, "team:filed", "slots", 5).await;
    assert_eq!((refused.status, &refused.json["code"]), (409, &json!("managed_by_file")));
    assert_eq!(remove(&world, &key, "team:filed", "slots").await, 409);
    assert_eq!(put(&world, &key, "team:filed", "rpm", 5).await.status, 200, "of that the file says nothing");
}

/// A lane with a reserve of its own takes from what the others may use of a deployment.
#[sqlx::test(migrations = "../../migrations")]
async fn a_reserve_changes_what_others_may_use_of_a_deployment(pool: PgPool) {
    let world = World::new(pool).await;
    let key = world.key("ops", Role::Admin).await;
    put(&world, &key, "deployment:sim", "slots", 100).await;
    let parts = async || limits(&world, &key).await.join(", ").replace("deployment:sim", "").replace(" slots", "");
    assert_eq!(parts().await, " 100, :reserve:prod 10, :shared 90");
    for (lane, rule) in [
        ("urgent", json!({"class": "strict", "reserve_percent": 15})),
        ("night", json!({"class": "weighted", "max_percent": 30})),
    ] {
        let answer = world.ask("PUT", &format!("/api/v1/lanes/{lane}"), Some(&key), &rule.to_string()).await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!(parts().await, " 100, :most:night 30, :reserve:prod 10, :reserve:urgent 15, :shared 75");
    assert_eq!(world.ask("DELETE", "/api/v1/lanes/urgent", Some(&key), "").await.status, 204);
    put(&world, &key, "deployment:sim", "slots", 10).await;
    assert_eq!(parts().await, " 10, :most:night 3, :reserve:prod 1, :shared 9");
    assert_eq!(remove(&world, &key, "deployment:sim", "slots").await, 204);
    assert_eq!(parts().await, "", "with the whole its parts");
}

/// A key is made under the rule by which its limits are changed later.
#[sqlx::test(migrations = "../../migrations")]
async fn a_key_gets_no_more_than_its_team(pool: PgPool) {
    let world = World::new(pool).await;
    let admin = world.key("ops", Role::Admin).await;
    let key = async |slots: i64| {
        let body = json!({"team": "filed", "name": "ci", "role": "submit", "slots": slots, "rpm": 900});
        world.ask("POST", "/api/v1/keys", Some(&admin), &body.to_string()).await
    };
    let before = limits(&world, &admin).await;
    let refused = key(4).await;
    assert_eq!((refused.status, &refused.json["param"]), (422, &json!("slots")), "{}", refused.json);
    let detail = refused.json["detail"].as_str().unwrap();
    assert!(detail.contains("slots 4 of the key contradicts slots 3 of team:filed"), "{detail}");
    assert_eq!(limits(&world, &admin).await, before);
    let keys = world.ask("GET", "/api/v1/keys?team=filed", Some(&admin), "").await.json;
    assert_eq!(keys["data"], json!([]), "it was made all the same");
    assert_eq!(key(3).await.status, 201);
}

/// The file beside what the API set, by the same rule; one that cannot be changes nothing.
#[sqlx::test(migrations = "../../migrations")]
async fn a_file_that_contradicts_the_apis_limits_is_refused(pool: PgPool) {
    let world = World::new(pool.clone()).await;
    let admin = world.key("ops", Role::Admin).await;
    put(&world, &admin, "team:filed", "rpm", 60).await;
    let body = json!({"team": "filed", "name": "ci", "role": "submit", "slots": 3}).to_string();
    let id = world.ask("POST", "/api/v1/keys", Some(&admin), &body).await.json["id"].as_str().unwrap().to_owned();
    let apply = async |rule: TeamRule| -> Option<String> {
        let lanes = Catalog::default_lanes();
        let catalog = Catalog { lanes, teams: [("filed".to_owned(), rule)].into(), ..Catalog::default() };
        let mut tx = pool.begin().await.unwrap();
        let refused = engine::config::apply_catalog(&mut tx, &catalog, "test").await.err();
        if refused.is_none() {
            tx.commit().await.unwrap();
        }
        refused.map(|error| error.to_string())
    };
    let bulk = |caps| [(domain::Lane::bulk(), caps)].into();
    let part = TeamRule { lanes: bulk(Caps { rpm: Some(61), ..Caps::default() }), ..TeamRule::default() };
    let said = "rpm 61 of lane:bulk:team:filed contradicts rpm 60 of team:filed, which it is part of";
    assert_eq!(apply(part).await.as_deref(), Some(said));
    let whole = TeamRule { slots: Some(2), ..TeamRule::default() };
    let said = format!("slots 2 of team:filed contradicts slots 3 of key:{id}, which is part of it");
    assert_eq!(apply(whole.clone()).await, Some(said));
    let listed = world.ask("GET", "/api/v1/limits", Some(&admin), "").await.json;
    let slots = listed["data"].as_array().unwrap().iter().find(|l| l["scope"] == "team:filed" && l["kind"] == "slots");
    assert_eq!(slots.unwrap()["cap"], 3, "{listed}");
    // A revoked key limits nothing any more.
    world.ask("DELETE", &format!("/api/v1/keys/{id}"), Some(&admin), "").await;
    assert_eq!(apply(whole).await, None);
}
