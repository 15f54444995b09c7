//! The operator changes the file: every replica follows, the API keeps its hands off, and what is removed ends.

use e2e::{SOON, Setup, Simulator, World, catalog, requests, until};
use serde_json::{Value, json};

fn with(simulator: &Simulator, routes: &[&str], more: &str) -> String {
    let deployment = catalog::deployment(simulator, "only", "sim-chat", "slots = 4");
    let routes: String = routes.iter().map(|name| catalog::route(name, &["only"])).collect();
    catalog::PRICES.to_owned() + &deployment + &routes + more
}

fn models(list: &Value) -> Vec<&str> {
    list["data"].as_array().expect("a list").iter().filter_map(|model| model["id"].as_str()).collect()
}

#[tokio::test]
async fn all_replicas_follow_the_newest_file() {
    let setup = |simulator: &_| Setup {
        lease_s: 5,
        ..Setup::new(with(simulator, &["chat", "old"], "[teams.search]\nweight = 2\n"))
    };
    let world = World::start("declared", setup).await;
    world.simulator.set("only", json!({"hang_rate": 1.0})).await;
    let waiting = world.admin.submit("", requests::chat(10).replace("\"chat\"", "\"old\"")).await;
    // One of the four slots is kept for prod.
    world.simulator.has_seen(3).await;

    // A replica with a newer file: one route more, one less, another team.
    let newer = Setup {
        roles: "api,worker",
        lease_s: 5,
        ..Setup::new(with(&world.simulator, &["chat", "new"], "[teams.support]\nslots = 2\n"))
    };
    let replica = world.replica("replica", &newer).await;
    let followed = async || (models(&world.admin.get("/v1/models").await.json()) == ["chat", "new"]).then_some(());
    until("the first replica to follow", SOON, followed).await;
    world.admin.chat(requests::chat_body("old", 1)).await.expect(404);

    // The work that is left for the route says what it waits for; it is not lost.
    let stuck = world.admin.job_when(&waiting, "to miss its route", |job| {
        job["waiting_reason"].as_str().is_some_and(|reason| reason.contains("route old is not declared"))
    });
    assert_eq!(stuck.await["counts"]["failed"], 0);
    world.admin.post(&format!("/api/v1/jobs/{waiting}/cancel"), "").await.expect(200);

    let teams = world.admin.get("/api/v1/teams").await.expect(200).json();
    let team = |name: &str| teams["data"].as_array().expect("a list").iter().find(|team| team["name"] == name).cloned();
    assert_eq!(team("support").expect("it is declared")["managed_by"], "file");
    assert!(team("search").expect("it was there")["disabled_at"].is_string(), "{teams}");
    let refused = world.admin.delete("/api/v1/teams/support").await.expect(409).json();
    assert_eq!(refused["code"], "managed_by_file", "{refused}");
    let limits = world.admin.get("/api/v1/limits").await.expect(200).json();
    let scopes: Vec<&Value> = limits["data"].as_array().expect("a list").iter().map(|limit| &limit["scope"]).collect();
    assert!(scopes.contains(&&json!("team:support")) && scopes.contains(&&json!("deployment:only")), "{limits}");

    // A restart with its own, older file makes that one the newest.
    drop(replica);
    let mut world = world;
    world.gateway.kill9();
    world.gateway.restart().await;
    let back = async || (models(&world.admin.get("/v1/models").await.json()) == ["chat", "old"]).then_some(());
    until("the file of whoever started last", SOON, back).await;
    world.simulator.set("only", json!({"hang_rate": 0.0})).await;
    world.admin.ended(&waiting).await;
    world.check().await;
}
