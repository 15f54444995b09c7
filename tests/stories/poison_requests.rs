//! A request that takes down whatever runs it: it is put aside after as many tries as its job allows, and the rest goes on.

use e2e::{SOON, Setup, World, catalog, requests, until};
use serde_json::json;

const TRIES: i64 = 3;

#[tokio::test]
async fn a_request_that_kills_its_worker_is_put_aside_and_the_lane_goes_on() {
    let setup = |simulator: &_| Setup {
        roles: "api,maintenance",
        slots: 8,
        lease_s: 5,
        ..Setup::new(
            catalog::one(simulator, "")
                + &catalog::deployment(simulator, "bad", "sim-chat", "")
                + &catalog::route("poison", &["bad"]),
        )
    };
    let world = World::start("poison", setup).await;
    world.simulator.set("bad", json!({"hang_rate": 1.0})).await;
    let worker = Setup { roles: "worker", ..world.setup.clone() };
    let mut replica = world.replica("worker", &worker).await;
    let body = requests::chat_body("poison", 1);
    let poison = requests::line("line-1", "/v1/chat/completions", &body);
    let poisoned = world.admin.submit(&format!("?max_attempts={TRIES}"), poison).await;
    // Whenever it was called, its worker dies of it.
    for tries in 1..=TRIES as u64 {
        until("it to be called", SOON, async || {
            let seen = world.simulator.stats().await;
            seen.deployments.get("bad").is_some_and(|bad| bad.calls >= tries).then_some(())
        })
        .await;
        replica.kill9();
        replica.restart().await;
    }
    let job = world.admin.ended(&poisoned).await;
    assert_eq!((&job["state"], &job["counts"]["failed"]), (&json!("completed"), &json!(1)), "{job}");
    let result = world.admin.results(&poisoned, "?failed=true").await.remove(0);
    assert!(result["error"]["message"].as_str().is_some_and(|said| said.contains("3 tries")), "{result}");

    let id = world.admin.submit("", requests::chat(100)).await;
    assert_eq!(world.admin.ended(&id).await["counts"]["succeeded"], 100);
    world.check().await;
    let booked = "select count(*) from ledger where status = 'unknown_outcome' and deployment = 'bad'";
    assert_eq!(world.db.number(booked).await, TRIES);
}

/// A row that the database takes from nobody: what is settled with it is stored all the same, and it ends as a failure.
#[tokio::test]
async fn a_result_that_cannot_be_stored_holds_nothing_up() {
    let world = World::start("unstorable", |simulator| Setup::new(catalog::one(simulator, ""))).await;
    let refuse = "alter table result add check (not (ok and custom_id = 'line-7')) not valid";
    world.db.execute(refuse).await;
    let id = world.admin.submit("", requests::chat(100)).await;
    let job = world.admin.ended(&id).await;
    let counts = &job["counts"];
    assert_eq!((&counts["succeeded"], &counts["failed"]), (&json!(99), &json!(1)), "{job}");
    let result = world.admin.results(&id, "?failed=true").await.remove(0);
    assert_eq!(result["custom_id"], "line-7", "{result}");
    assert!(result["error"]["message"].as_str().is_some_and(|said| said.contains("SQLSTATE 23514")), "{result}");
    let metrics = world.admin.get("/metrics").await.expect(200).text();
    assert!(metrics.contains("tollway_refused_writes_total 1"), "{metrics}");
    // All three settlers are free, and nothing of limits, slots or leases is left behind.
    let next = world.admin.submit("", requests::chat(300)).await;
    assert_eq!(world.admin.ended(&next).await["counts"]["succeeded"], json!(299));
    world.check().await;
}
