//! Jobs that wait for other jobs, what is changed while a job waits or runs, and who did it.

use e2e::{Answer, Client, Setup, World, catalog, requests};
use reqwest::Method;
use serde_json::{Value, json};

async fn world(story: &str) -> World {
    World::start(story, |simulator| Setup { slots: 8, ..Setup::new(catalog::usual(simulator, "")) }).await
}

async fn change(caller: &Client, id: &str, change: &Value) -> Answer {
    let request = caller.request(Method::PATCH, &format!("/api/v1/jobs/{id}")).body(change.to_string());
    e2e::client::send(request).await
}

async fn history(world: &World, id: &str) -> Vec<Value> {
    let page = world.admin.get(&format!("/api/v1/jobs/{id}/history")).await.expect(200).json();
    page["data"].as_array().expect("a page").clone()
}

fn actions(history: &[Value]) -> Vec<&str> {
    history.iter().filter_map(|line| line["action"].as_str()).collect()
}

#[tokio::test]
async fn a_job_begins_when_the_one_before_it_has_succeeded() {
    let world = world("after").await;
    world.simulator.set_latency("first", 100).await;
    let first = world.admin.submit("", requests::chat(200)).await;
    let second = world.admin.submit(&format!("?after={first}"), requests::chat(20)).await;
    let third = world.admin.submit(&format!("?after={second}:success"), requests::chat(10)).await;
    let waiting = world.admin.job(&second).await;
    assert_eq!((&waiting["waits"]["reason"], &waiting["state"]), (&json!("after"), &json!("queued")), "{waiting}");
    assert_eq!(waiting["after"], json!({"job": first, "on": "success"}), "{waiting}");
    // What else happens to it does not begin it.
    for verb in ["pause", "resume"] {
        world.admin.post(&format!("/api/v1/jobs/{second}/{verb}"), "").await.expect(200);
    }
    let job = world.admin.ended(&third).await;
    assert_eq!(job["counts"]["succeeded"], 10, "{job}");
    let ends = [world.admin.job(&first).await, world.admin.job(&second).await];
    assert!(ends[1]["started_at"].as_str() >= ends[0]["finished_at"].as_str(), "it began too early: {ends:?}");
    assert!(job["started_at"].as_str() >= ends[1]["finished_at"].as_str(), "it began too early: {job} {ends:?}");
    let done = history(&world, &second).await;
    assert_eq!(actions(&done), ["submit", "pause", "resume", "begin"], "{done:?}");
    assert_eq!((&done[3]["key_id"], &done[3]["details"]["after"]), (&Value::Null, &json!(first)), "{done:?}");
    assert_eq!(done[0]["details"]["requests"], 20, "{done:?}");
    let shown = world.gateway.run(&world.admin.key, &["jobs", "show", &second]).await.expect(0).stdout;
    assert!(shown.contains("begin") && shown.contains("by Tollway") && shown.contains("of ops"), "{shown}");
    world.check().await;
}

/// The chain behind a job that did not succeed is cancelled, and says why; who waits for its end only begins.
#[tokio::test]
async fn what_comes_after_a_failure_is_cancelled_unless_it_only_waits_for_the_end() {
    let world = world("after_failure").await;
    world.simulator.set_latency("first", 50).await;
    let first = world.admin.submit("", requests::chat(2_000)).await;
    let second = world.admin.submit(&format!("?after={first}"), requests::chat(5)).await;
    let third = world.admin.submit(&format!("?after={second}"), requests::chat(5)).await;
    let anyway = world.admin.submit(&format!("?after={first}:end"), requests::chat(5)).await;
    world.simulator.has_seen(10).await;
    world.admin.post(&format!("/api/v1/jobs/{first}/cancel"), "").await.expect(200);
    for id in [&second, &third] {
        let job = world.admin.ended(id).await;
        assert_eq!((&job["state"], &job["counts"]["cancelled"]), (&json!("cancelled"), &json!(5)), "{job}");
        let last = history(&world, id).await.pop().expect("a line");
        assert_eq!((&last["action"], &last["key_id"]), (&json!("cancel"), &Value::Null), "{last}");
        assert!(last["details"]["reason"].is_string(), "{last}");
    }
    assert_eq!(world.admin.ended(&anyway).await["counts"]["succeeded"], 5);

    // The other one has ended already.
    let late = world.admin.post(&format!("/api/v1/jobs?after={first}"), requests::chat(1)).await.expect(422).json();
    assert_eq!(late["param"], "after", "{late}");
    let begins = world.admin.submit(&format!("?after={first}:end"), requests::chat(1)).await;
    assert_eq!(world.admin.ended(&begins).await["counts"]["succeeded"], 1);
    let never = world.admin.post("/api/v1/jobs?after=job_0000000000001", requests::chat(1)).await.expect(404).json();
    assert_eq!(never["param"], "after", "{never}");
    let foreign = world.key("other", json!({})).await;
    foreign.post(&format!("/api/v1/jobs?after={first}"), requests::chat(1)).await.expect(404);
    world.check().await;
}

#[tokio::test]
async fn priority_deadline_and_predecessor_change_while_a_job_waits() {
    let world = world("change").await;
    world.simulator.set_latency("first", 40).await;
    let busy = world.admin.submit("", requests::chat(4_000)).await;
    let waiting = world.admin.submit("?priority=-5", requests::chat(40)).await;
    world.simulator.has_seen(10).await;
    let set = ["jobs", "set", &waiting, "--priority", "50", "--deadline", "6h"];
    world.gateway.run(&world.admin.key, &set).await.expect(0);
    // Forty requests on eight slots at 40 ms: far ahead of the other job's four thousand.
    let job = world.admin.ended(&waiting).await;
    assert_eq!(job["counts"]["succeeded"], 40, "{job}");
    assert!(job["deadline_at"].is_string(), "{job}");
    assert!(world.admin.job(&busy).await["counts"]["pending"].as_i64() > Some(2_000), "it did not go first");
    assert_eq!(actions(&history(&world, &waiting).await), ["submit", "change"]);
    for same in [json!({"priority": 0}), json!({})] {
        change(&world.admin, &busy, &same).await.expect(200);
    }
    assert_eq!(actions(&history(&world, &busy).await), ["submit"], "nothing was changed");

    for (bad, param) in [
        (json!({"deadline": "2020-01-01T00:00:00Z"}), "deadline"),
        (json!({"priority": 101}), "priority"),
        (json!({"after": {"job": "job_0000000000001"}}), "after"),
        (json!({"after": {"job": busy}}), "after"),
    ] {
        let refused = change(&world.admin, &busy, &bad).await.expect(422).json();
        assert_eq!(refused["param"], param, "{bad}: {refused}");
    }
    change(&world.admin, &waiting, &json!({"priority": 1})).await.expect(409);
    let other = world.key("other", json!({})).await;
    change(&other, &busy, &json!({"priority": 1})).await.expect(404);

    // b after a, c after b; a after c would close the circle.
    let a = world.admin.submit(&format!("?after={busy}:end&priority=5"), requests::chat(1)).await;
    let b = world.admin.submit(&format!("?after={a}&priority=5"), requests::chat(1)).await;
    let c = world.admin.submit(&format!("?after={b}&priority=5"), requests::chat(1)).await;
    let refused = change(&world.admin, &a, &json!({"after": {"job": c}})).await.expect(422).json();
    assert!(refused["detail"].as_str().is_some_and(|said| said.contains("cycle") && said.contains(&b)), "{refused}");
    assert_eq!(world.admin.job(&a).await["after"]["job"], json!(busy), "nothing was changed");
    change(&world.admin, &a, &json!({"after": null})).await.expect(200);
    for id in [&a, &b, &c] {
        assert_eq!(world.admin.ended(id).await["counts"]["succeeded"], 1);
    }
    world.admin.post(&format!("/api/v1/jobs/{busy}/cancel"), "").await.expect(200);
    world.admin.ended(&busy).await;
    world.check().await;
}

/// Each change has its line, with the key that made it, once; no line holds what a prompt holds.
#[tokio::test]
async fn the_history_says_who_did_what() {
    let world = world("history").await;
    world.simulator.set_latency("first", 50).await;
    let theirs = world.key("search", json!({})).await;
    let id = theirs.submit("", requests::chat(500)).await;
    for verb in ["pause", "pause", "resume", "cancel", "cancel"] {
        world.admin.post(&format!("/api/v1/jobs/{id}/{verb}"), "").await.expect(200);
    }
    world.admin.ended(&id).await;
    for _ in 0..2 {
        theirs.delete(&format!("/api/v1/jobs/{id}")).await.expect(200);
    }
    let done = history(&world, &id).await;
    assert_eq!(actions(&done), ["submit", "pause", "resume", "cancel", "delete"], "{done:?}");
    let teams: Vec<&Value> = done.iter().map(|line| &line["team"]).collect();
    assert_eq!(teams, ["search", "ops", "ops", "ops", "search"], "{done:?}");
    assert!(!json!(done).to_string().contains("question"), "{done:?}");
    let page = theirs.get(&format!("/api/v1/jobs/{id}/history?limit=2")).await.expect(200).json();
    let cursor = page["next"].as_str().expect("there is more");
    let rest = theirs.get(&format!("/api/v1/jobs/{id}/history?cursor={cursor}")).await.expect(200).json();
    assert_eq!(rest["data"].as_array().map(Vec::len), Some(3), "{rest}");
    world.check().await;
}
