//! Replicas that are replaced one after the other while they work: what they had not started goes back at once, and what
//! they had called ends first. Nothing is called twice.

use e2e::{Gateway, Setup, World, catalog, requests};
use serde_json::json;

const REQUESTS: usize = 6_000;

#[tokio::test]
async fn a_rolling_restart_under_load_loses_and_repeats_nothing() {
    let setup = |simulator: &_| Setup { roles: "api,maintenance", ..Setup::new(catalog::one(simulator, "")) };
    let world = World::start("rolling", setup).await;
    let worker = Setup { roles: "worker", slots: 24, ..world.setup.clone() };
    world.simulator.set_latency("only", 100).await;
    let mut replicas: Vec<Gateway> = Vec::new();
    for name in ["a", "b", "c"] {
        replicas.push(world.replica(name, &worker).await);
    }
    let id = world.admin.submit("", requests::chat(REQUESTS)).await;
    for (n, replica) in (1..).zip(&mut replicas) {
        world.simulator.has_seen(n * 500).await;
        assert!(replica.sigterm().success());
        replica.restart().await;
    }
    let left = world.admin.job(&id).await;
    assert!(left["counts"]["pending"].as_i64() > Some(0), "it was over before the last had been restarted: {left}");
    let job = world.admin.ended(&id).await;
    assert_eq!(job["counts"]["succeeded"], json!(REQUESTS), "{job}");
    world.check().await;
    assert_eq!(world.simulator.calls().await, REQUESTS as u64);
    assert_eq!(world.db.number("select count(*) from ledger where status = 'unknown_outcome'").await, 0);
    // Nobody waited for a lease to end.
    assert_eq!(world.db.number("select count(*) from ledger where attempt_no > 1").await, 0);
}
