//! kill -9 of the gateway in the middle of its work: every request ends once, and what was lost is booked as of unknown outcome.

use std::time::{Duration, Instant};

use e2e::{SOON, Setup, World, catalog, requests, until};
use nix::sys::signal::Signal;
use serde_json::json;

const REQUESTS: usize = 20_000;

#[tokio::test]
async fn a_killed_gateway_loses_nothing_and_books_what_it_called() {
    let mut world = World::start("kill_gateway", |simulator| Setup {
        slots: 128,
        lease_s: 5,
        ..Setup::new(catalog::usual(simulator, ""))
    })
    .await;
    // Some calls are under way at any moment.
    world.simulator.set_latency("first", 15).await;
    let id = world.admin.submit("", requests::chat(REQUESTS)).await;
    for calls in [4_000, 11_000] {
        world.simulator.has_seen(calls).await;
        world.gateway.kill9();
        assert!(world.db.number("select count(*) from lease").await > 0, "it died with nothing in its hands");
        world.gateway.restart().await;
    }
    let job = world.admin.ended(&id).await;
    assert_eq!(job["counts"]["succeeded"], json!(REQUESTS), "{job}");

    let results = world.admin.results(&id, "").await;
    assert_eq!(results.len(), REQUESTS);
    for (n, result) in (1..).zip(&results) {
        requests::assert_answers(result, n);
    }
    world.check().await;
    let lost = world.db.number("select count(*) from ledger where status = 'unknown_outcome'").await;
    // At most what its slots held, twice.
    assert!((1..=256).contains(&lost), "{lost} calls were lost");
    let called_anew = world.simulator.calls().await - REQUESTS as u64;
    assert!(called_anew as i64 <= lost, "{called_anew} calls were made twice, {lost} were lost");
}

/// The requests run again on another replica, within the lease and 15 seconds.
#[tokio::test]
async fn another_replica_takes_over_what_a_dead_one_held() {
    let setup =
        |simulator: &_| Setup { roles: "api,maintenance", lease_s: 5, ..Setup::new(catalog::one(simulator, "")) };
    let world = World::start("take_over", setup).await;
    let worker = Setup { roles: "worker", ..world.setup.clone() };
    world.simulator.set("only", json!({"hang_rate": 1.0})).await;
    let mut first = world.replica("first", &worker).await;
    let id = world.admin.submit("", requests::chat(10)).await;
    until("all calls to hang", SOON, async || (world.simulator.stats().await.all.in_flight == 10).then_some(())).await;
    let _second = world.replica("second", &worker).await;
    world.simulator.set("only", json!({"hang_rate": 0.0})).await;
    first.kill9();
    let died = Instant::now();
    let job = world.admin.ended(&id).await;
    let patience = Duration::from_secs(worker.lease_s + 15);
    assert!(died.elapsed() < patience, "it took {:?}", died.elapsed());
    assert_eq!(job["counts"]["succeeded"], 10, "{job}");
    world.check().await;
    assert_eq!(world.db.number("select count(*) from ledger where status = 'unknown_outcome'").await, 10);
}

/// A replica that stood still for longer than its lease: what it held has run elsewhere, and its late answers change
/// nothing but what their calls cost.
#[tokio::test]
async fn a_replica_that_stalled_stores_nothing_that_is_no_longer_its_own() {
    let setup =
        |simulator: &_| Setup { roles: "api,maintenance", lease_s: 5, ..Setup::new(catalog::one(simulator, "")) };
    let world = World::start("stalled", setup).await;
    let worker = Setup { roles: "api,worker", ..world.setup.clone() };
    world.simulator.set_latency("only", 5_000).await;
    let mut first = world.replica("first", &worker).await;
    let id = world.admin.submit("", requests::chat(40)).await;
    until("all calls", SOON, async || (world.simulator.stats().await.all.in_flight == 40).then_some(())).await;
    first.signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    world.simulator.set_latency("only", 50).await;
    let _second = world.replica("second", &worker).await;
    let job = world.admin.ended(&id).await;
    assert_eq!(job["counts"]["succeeded"], 40, "{job}");
    // The lease, and for how long it may hold locks in the middle of a transaction.
    assert!(stopped.elapsed() < Duration::from_secs(30), "it held the others up for {:?}", stopped.elapsed());
    // Its answers have come in by then, and are read when it wakes.
    until("its answers", SOON, async || (world.simulator.stats().await.all.in_flight == 0).then_some(())).await;
    first.signal(Signal::SIGCONT);
    let woke = async || first.log().contains("declared dead").then_some(());
    until("it to notice", SOON, woke).await;
    first.assert_runs();
    world.check().await;
    assert_eq!(world.admin.job(&id).await["counts"], job["counts"], "an ended job changed");
    assert_eq!(world.db.number("select count(*) from ledger where status = 'unknown_outcome'").await, 40);
    assert_eq!(world.simulator.calls().await, 80);
    // Answers that it read before it noticed are corrections of what their calls cost, and each is counted as a stale write.
    let metrics = world.admin.at(&first.url).get("/metrics").await.expect(200).text();
    let stale = metrics.lines().find_map(|line| line.strip_prefix("tollway_stale_writes_total "));
    let stale: i64 = stale.map_or(0, |n| n.parse().expect("a number"));
    assert_eq!(world.db.number("select count(*) from ledger").await, 80 + stale);
}

/// A synchronous call whose gateway dies is one row, charged at what was held for it.
#[tokio::test]
async fn a_synchronous_call_of_a_killed_gateway_is_booked_once() {
    let setup = |simulator: &_| Setup { lease_s: 5, ..Setup::new(catalog::one(simulator, "")) };
    let mut world = World::start("kill_direct", setup).await;
    world.simulator.set("only", json!({"hang_rate": 1.0})).await;
    let caller = world.admin.clone();
    let call = tokio::spawn(async move {
        e2e::client::try_send(
            caller.request(reqwest::Method::POST, "/v1/chat/completions").body(requests::chat_body("chat", 1)),
        )
        .await
    });
    let intents = "select count(*) from intent";
    until("the intent", SOON, async || (world.db.number(intents).await == 1).then_some(())).await;
    world.simulator.has_seen(1).await;
    world.gateway.kill9();
    assert!(call.await.expect("no panic").is_err(), "it was answered by the dead");
    world.gateway.restart().await;
    let lost = "select count(*) from ledger where status = 'unknown_outcome' and contracted_cost = reserved and job_id is null";
    until("the lost call's row", SOON, async || (world.db.number(lost).await == 1).then_some(())).await;
    world.check().await;
}
