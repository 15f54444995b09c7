//! A replica whose clock is an hour wrong: leases, retries, deadlines and the ledger's times are the database's.

use std::time::{Duration, Instant};

use e2e::{Setup, World, catalog, requests, skew};
use serde_json::json;

async fn works_beside_a_right_one(story: &str, seconds: i64) {
    let setup =
        |simulator: &_| Setup { roles: "api,maintenance", lease_s: 15, ..Setup::new(catalog::one(simulator, "")) };
    let world = World::start(story, setup).await;
    let right = Setup { roles: "worker", slots: 16, ..world.setup.clone() };
    let wrong = Setup {
        roles: "api,worker,maintenance",
        variables: skew::variables(world.dir.path(), seconds),
        ..right.clone()
    };
    let mut replica = world.replica("wrong", &wrong).await;
    let caller = world.admin.at(&replica.url);
    // Retries and waits are times too.
    world.simulator.set("only", json!({"latency": {"kind": "fixed", "ms": 50}, "error_rate": 0.05})).await;
    let _right = world.replica("right", &right).await;
    let id = caller.submit("?max_attempts=20", requests::chat(2_000)).await;
    world.simulator.has_seen(500).await;
    caller.chat(requests::chat_body("chat", 1)).await;
    // An hour is more than a lease: the wrong one was not declared dead, and declared nobody else dead.
    let job = world.admin.ended(&id).await;
    assert_eq!(job["counts"]["succeeded"], 2_000, "{job}");
    assert_eq!(world.db.number("select count(*) from ledger where status = 'unknown_outcome'").await, 0);
    let workers = "select count(distinct worker_id) from ledger where job_id is not null";
    assert_eq!(world.db.number(workers).await, 2, "both have worked");
    let strange = "select count(*) from ledger
                   where greatest(abs(extract(epoch from recorded_at - requested_at)),
                                  abs(extract(epoch from recorded_at - reserved_at)),
                                  abs(extract(epoch from recorded_at - completed_at))) > 600";
    assert_eq!(world.db.number(strange).await, 0, "times of the ledger are not the database's");

    // And when it dies, its lease ends as any other does.
    world.simulator.set("only", json!({"latency": {"kind": "fixed", "ms": 2000}, "error_rate": 0.0})).await;
    let before = world.simulator.calls().await;
    let id = world.admin.submit("", requests::chat(32)).await;
    world.simulator.has_seen(before + 20).await;
    replica.kill9();
    let died = Instant::now();
    let job = world.admin.ended(&id).await;
    assert_eq!(job["counts"]["succeeded"], 32, "{job}");
    let patience = Duration::from_secs(right.lease_s + 15 + 4);
    assert!(died.elapsed() < patience, "it took {:?}", died.elapsed());
    world.check().await;
}

#[tokio::test]
async fn a_replica_that_is_an_hour_ahead_changes_nothing() {
    works_beside_a_right_one("ahead", 3_600).await;
}

#[tokio::test]
async fn a_replica_that_is_an_hour_behind_changes_nothing() {
    works_beside_a_right_one("behind", -3_600).await;
}
