//! A job's life: paused, resumed, cancelled, expired, deleted, and carried over a restart.

use std::time::Duration;

use e2e::{Answer, SOON, Setup, World, catalog, requests, until};
use serde_json::{Value, json};

async fn world(story: &str) -> World {
    World::start(story, |simulator| Setup { slots: 8, ..Setup::new(catalog::usual(simulator, "")) }).await
}

async fn act(world: &World, id: &str, verb: &str) -> Answer {
    world.admin.post(&format!("/api/v1/jobs/{id}/{verb}"), "").await
}

#[tokio::test]
async fn a_paused_job_starts_nothing_until_it_is_resumed() {
    let world = world("pause").await;
    world.simulator.set_latency("first", 100).await;
    let id = world.admin.submit("", requests::chat(300)).await;
    world.simulator.has_seen(20).await;
    let paused = act(&world, &id, "pause").await.expect(200).json();
    assert_eq!((&paused["state"], &paused["waiting_reason"]), (&json!("paused"), &json!("paused")), "{paused}");
    act(&world, &id, "pause").await.expect(200);
    let quiet = world.admin.job_when(&id, "to end its calls", |job| job["in_flight"] == 0).await;
    let (calls, pending) = (world.simulator.calls().await, &quiet["counts"]["pending"]);
    assert!(pending.as_i64() > Some(100), "{quiet}");
    // Work passes it by all the while.
    let other = world.admin.submit("", requests::chat(100)).await;
    world.admin.ended(&other).await;
    assert_eq!(world.simulator.calls().await, calls + 100, "the paused job called on");
    assert_eq!(&world.admin.job(&id).await["counts"]["pending"], pending);
    world.simulator.set_latency("first", 20).await;

    let resumed = act(&world, &id, "resume").await.expect(200).json();
    assert_eq!(resumed["state"], "running", "{resumed}");
    act(&world, &id, "resume").await.expect(200);
    let job = world.admin.ended(&id).await;
    assert_eq!(job["counts"]["succeeded"], 300, "{job}");
    for verb in ["pause", "resume", "cancel"] {
        let refused = act(&world, &id, verb).await.expect(409).json();
        assert_eq!((&refused["code"], &refused["state"]), (&json!("conflict"), &json!("completed")), "{refused}");
    }
    world.check().await;
}

#[tokio::test]
async fn a_cancelled_job_hangs_up_on_its_calls_and_calls_no_more() {
    let world = world("cancel").await;
    world.simulator.set_latency("first", 50).await;
    let id = world.admin.submit("", requests::chat(20_000)).await;
    world.simulator.has_seen(30).await;
    // These will not end by themselves.
    world.simulator.set_latency("first", 600_000).await;
    // One of the eight slots is kept for prod. Those that began before hang only if none ends, and so none begins, in many times the
    // latency that they had.
    let hanging = async || {
        let before = world.simulator.calls().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let stats = world.simulator.stats().await;
        (stats.all.in_flight == 7 && world.simulator.calls().await == before).then_some(())
    };
    until("calls that hang", SOON, hanging).await;
    act(&world, &id, "cancel").await.expect(200);
    let job = world.admin.ended(&id).await;
    act(&world, &id, "cancel").await.expect(200);
    assert_eq!(job["state"], "cancelled", "{job}");
    let count = |what: &str| job["counts"][what].as_i64().unwrap_or(-1);
    assert!(count("succeeded") >= 22 && count("succeeded") < 1_000, "{job}");
    assert_eq!(count("succeeded") + count("cancelled"), 20_000, "{job}");
    let booked = "select count(*) from ledger where status = 'cancelled' and contracted_cost > 0";
    let hung_up = world.db.number(booked).await;
    let calls = world.simulator.calls().await as i64;
    assert!(hung_up > 0 && calls <= count("succeeded") + hung_up, "{calls} calls, {hung_up} hung up: {job}");

    let results = world.admin.results(&id, "").await;
    assert_eq!(requests::numbers(&results), (1..=20_000).collect::<Vec<_>>());
    let cancelled = results.iter().filter(|result| result["error"]["code"] == "batch_cancelled").count();
    assert_eq!(cancelled as i64, count("cancelled"));
    assert_eq!(world.admin.results(&id, "?failed=true&from=19991").await.len(), 10);
    assert_eq!(world.simulator.calls().await as i64, calls, "a new call began");
    world.check().await;
}

/// Retries too: a request that waits for its next try is cancelled with the rest.
#[tokio::test]
async fn a_job_that_only_waits_can_be_cancelled() {
    let world = world("cancel_waiting").await;
    for deployment in ["first", "second"] {
        world.simulator.outage(deployment, 429, Duration::from_secs(120), Some(60)).await;
    }
    let id = world.admin.submit("", requests::chat(20)).await;
    until("a request that waits for its next try", SOON, async || {
        (world.db.number("select count(*) from retry").await > 0).then_some(())
    })
    .await;
    act(&world, &id, "cancel").await.expect(200);
    let job = world.admin.ended(&id).await;
    assert_eq!((&job["state"], &job["counts"]["cancelled"]), (&json!("cancelled"), &json!(20)), "{job}");
    world.check().await;
}

#[tokio::test]
async fn a_deleted_job_leaves_its_record_and_its_spend() {
    let world = world("delete").await;
    world.simulator.set_latency("first", 100).await;
    let id = world.admin.submit("", requests::chat(100)).await;
    let path = format!("/api/v1/jobs/{id}");
    let refused = world.admin.delete(&path).await.expect(409).json();
    assert!(refused["detail"].as_str().is_some_and(|said| said.contains("cancel it first")), "{refused}");
    let ended = world.admin.ended(&id).await;
    world.admin.delete(&path).await.expect(200);
    assert_eq!(world.db.number("select (select count(*) from item) + (select count(*) from result)").await, 0);
    let gone = world.admin.get(&format!("{path}/results")).await.expect(410).json();
    assert_eq!(gone["code"], "gone", "{gone}");
    let still: Value = world.admin.job(&id).await;
    assert_eq!((&still["counts"], &still["cost_usd"]), (&ended["counts"], &ended["cost_usd"]));
    assert_eq!(world.db.number("select count(*) from ledger").await, 100);
    world.admin.delete(&path).await.expect(200);
    world.check().await;
}

#[tokio::test]
async fn a_job_expires_at_its_deadline_and_begins_no_earlier_than_it_may() {
    let world = world("times").await;
    world.simulator.set_latency("first", 100).await;
    let now = "select to_char(clock_timestamp() + interval '8 s', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')";
    let soon = world.db.text(now).await;
    let late = world.admin.submit(&format!("?deadline={soon}"), requests::chat(2_000)).await;
    let job = world.admin.ended(&late).await;
    let count = |what: &str| job["counts"][what].as_i64().unwrap_or(-1);
    assert_eq!(job["state"], "expired", "{job}");
    assert!(count("succeeded") > 0 && count("expired") > 0, "{job}");
    assert_eq!(count("succeeded") + count("expired"), 2_000, "{job}");
    assert_eq!(world.db.number("select count(*) from audit where action = 'expire' and key_id is null").await, 1);
    let results = world.admin.results(&late, "?failed=true").await;
    assert_eq!(results.len() as i64, count("expired"));
    assert!(results.iter().all(|result| result["error"]["code"] == "batch_expired"));

    let calls = world.simulator.calls().await as usize;
    let soon = world.db.text(now).await;
    let waiting = world.admin.submit(&format!("?start_at={soon}"), requests::chat(5)).await;
    world.admin.ended(&waiting).await;
    let began = world.simulator.journal().await[calls].arrived_us;
    let due = "select (extract(epoch from start_at) * 1000000)::bigint from job where start_at is not null";
    let due = world.db.number(due).await as u64;
    assert!((due..due + 2_000_000).contains(&began), "due at {due}, began at {began}");
    world.check().await;
}

/// SIGTERM: calls under way end and are settled, and the next process goes on. Nothing is lost, so nothing is unknown.
#[tokio::test]
async fn a_gateway_that_is_asked_to_end_loses_nothing() {
    let mut world = world("sigterm").await;
    world.simulator.set_latency("first", 100).await;
    let id = world.admin.submit("", requests::chat(300)).await;
    world.simulator.has_seen(50).await;
    let status = world.gateway.sigterm();
    assert!(status.success(), "{status}");
    let held = "select (select count(*) from lease) + (select count(*) from worker)";
    assert_eq!(world.db.number(held).await, 0, "it kept something");
    let stats = world.simulator.stats().await;
    assert_eq!(stats.all.by_outcome.len(), 1, "calls were cut: {stats:?}");
    world.gateway.restart().await;
    let job = world.admin.ended(&id).await;
    assert_eq!(job["counts"]["succeeded"], 300, "{job}");
    assert_eq!(world.simulator.calls().await, 300);
    world.check().await;
}

/// A call that outlasts the time its gateway has to end is cut: its caller is told so, and it is booked before the gateway ends.
#[tokio::test]
async fn a_call_that_outlasts_the_end_of_its_gateway_is_booked() {
    let setup = |simulator: &_| Setup { drain_s: 1, lease_s: 5, ..Setup::new(catalog::one(simulator, "")) };
    let mut world = World::start("outlast", setup).await;
    world.simulator.set("only", json!({"hang_rate": 1.0})).await;
    let request =
        world.admin.request(reqwest::Method::POST, "/v1/chat/completions").body(requests::chat_body("chat", 1));
    let call = tokio::spawn(e2e::client::try_send(request));
    let intents = "select count(*) from intent";
    until("the intent", SOON, async || (world.db.number(intents).await == 1).then_some(())).await;
    world.simulator.has_seen(1).await;
    let status = world.gateway.sigterm();
    assert!(status.success(), "{status}");
    let answer = call.await.expect("no panic").expect("it is told");
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(world.db.number("select count(*) from worker").await, 0, "something is left to others");
    let booked = "select count(*) from ledger where job_id is null and is_final and usage_source = 'estimated'";
    assert_eq!(world.db.number(booked).await, 1);
    world.simulator.set("only", json!({"hang_rate": 0.0})).await;
    world.gateway.restart().await;
    world.check().await;
}
