//! kill -9 of PostgreSQL in the middle: the gateway stays, says so, and goes on where it was.

use std::time::{Duration, Instant};

use e2e::{Postgres, SOON, Setup, World, catalog, client::try_send, requests, until};
use futures::{SinkExt, channel::mpsc};
use reqwest::{Body, Method};
use serde_json::json;

const REQUESTS: usize = 20_000;

async fn world(story: &str) -> World {
    let setup = |simulator: &_| Setup { slots: 128, lease_s: 5, ..Setup::new(catalog::usual(simulator, "")) };
    World::start_on(Postgres::own(), story, setup).await
}

#[tokio::test]
async fn a_killed_database_loses_nothing() {
    let mut world = world("kill_postgres").await;
    world.simulator.set_latency("first", 15).await;
    let id = world.admin.submit("", requests::chat(REQUESTS)).await;
    for calls in [4_000, 11_000] {
        world.simulator.has_seen(calls).await;
        world.db.postgres.kill9();
        says_so(&mut world).await;
        world.db.postgres.start();
        let up = Instant::now();
        ready(&world).await;
        assert!(up.elapsed() < Duration::from_secs(20), "it came back after {:?}", up.elapsed());
    }
    let job = world.admin.ended(&id).await;
    assert_eq!(job["counts"]["succeeded"], json!(REQUESTS), "{job}");
    world.gateway.assert_runs();
    let results = world.admin.results(&id, "").await;
    assert_eq!(results.len(), REQUESTS);
    for (n, result) in (1..).zip(&results) {
        requests::assert_answers(result, n);
    }
    world.check().await;
}

/// Longer than the lease: what ran was stopped, and is booked although nobody else took it.
#[tokio::test]
async fn a_database_that_is_away_for_longer_than_the_lease() {
    let mut world = world("postgres_away").await;
    world.simulator.set_latency("first", 300).await;
    let id = world.admin.submit("", requests::chat(2_000)).await;
    world.simulator.has_seen(500).await;
    // From here on nothing is answered: the calls under way when the lease ends are stopped.
    world.simulator.set("first", json!({"hang_rate": 1.0})).await;
    until("all calls to hang", SOON, async || {
        // All slots but those that are kept for prod.
        let hanging = world.db.number("select count(*) from lease where claimed_at < now() - interval '1 s'").await;
        (hanging == 115).then_some(())
    })
    .await;
    world.db.postgres.kill9();
    says_so(&mut world).await;
    let gone = async || (world.simulator.stats().await.all.in_flight == 0).then_some(());
    until("the calls to be stopped when the lease ends", Duration::from_secs(20), gone).await;
    world.simulator.set("first", json!({"hang_rate": 0.0})).await;
    world.db.postgres.start();
    ready(&world).await;
    let job = world.admin.ended(&id).await;
    assert_eq!(job["counts"]["succeeded"], json!(2_000), "{job}");
    world.gateway.assert_runs();
    world.check().await;
}

/// A call that cannot be booked gets no answer, and what was called all the same is booked as soon as that can be done.
#[tokio::test]
async fn a_synchronous_call_without_a_database_is_refused_and_booked() {
    let mut world = world("direct_postgres").await;
    world.admin.chat(requests::chat_body("chat", 1)).await.expect(200);
    world.db.postgres.kill9();
    let refused = world.admin.chat(requests::chat_body("chat", 2)).await.expect(503);
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    says_so(&mut world).await;
    world.db.postgres.start();
    ready(&world).await;
    let served = async || (world.admin.chat(requests::chat_body("chat", 3)).await.status == 200).then_some(());
    until("calls to be answered again", SOON, served).await;
    world.check().await;
}

/// What is not known is not a refusal: nobody can say that the limit is full.
#[tokio::test]
async fn a_call_under_a_limit_without_a_database_is_not_told_that_the_limit_is_full() {
    let mut world = world("limit_postgres").await;
    let caller = world.key("search", json!({"slots": 1})).await;
    // Of one slot nothing is kept for the next call.
    let served = async || (caller.chat(requests::chat_body("chat", 1)).await.status == 200).then_some(());
    until("a call to be answered", SOON, served).await;
    let idle = "select count(*) from limit_use where granted > 0 or used > 0";
    until("its slot to go back", SOON, async || (world.db.number(idle).await == 0).then_some(())).await;
    world.db.postgres.kill9();
    for n in 0..5 {
        let refused = caller.chat(requests::chat_body("chat", n)).await.expect(503);
        assert!(refused.header("retry-after").is_some(), "{refused:?}");
    }
    says_so(&mut world).await;
    world.db.postgres.start();
    ready(&world).await;
    until("calls to be answered again", SOON, served).await;
    world.check().await;
}

/// The policy for a minute without the database: nothing is called that could not be booked, callers hear so at once, and what was
/// under way is answered and booked.
#[tokio::test]
async fn calls_during_a_minute_without_a_database_are_refused_at_once() {
    let world = world("minute").await;
    world.simulator.set_latency("first", 4_000).await;
    let request = world.admin.request(Method::POST, "/v1/chat/completions").body(requests::chat_body("chat", 1));
    let under_way = tokio::spawn(try_send(request));
    let intents = "select count(*) from intent";
    until("the call to be announced", SOON, async || (world.db.number(intents).await == 1).then_some(())).await;
    world.simulator.set_latency("first", 10).await;

    world.db.postgres.kill9();
    let (killed, mut refused, mut slow) = (Instant::now(), 0, 0);
    while killed.elapsed() < Duration::from_secs(60) {
        let asked = Instant::now();
        let answer = world.admin.chat(requests::chat_body("chat", 2)).await;
        assert_eq!(answer.status, 503, "after {:?}: {}", killed.elapsed(), answer.text());
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
        assert!(asked.elapsed() < Duration::from_secs(4), "it hung for {:?}", asked.elapsed());
        slow += usize::from(asked.elapsed() > Duration::from_millis(500));
        refused += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The first may have to find out, and the machine has other things to do.
    assert!(
        refused > 100 && slow * 50 <= refused,
        "{refused} were refused, {slow} of them after more than half a second"
    );
    let answered = under_way.await.expect("no panic").expect("an answer").expect(200);
    world.db.postgres.start();
    ready(&world).await;
    let served = async || (world.admin.chat(requests::chat_body("chat", 3)).await.status == 200).then_some(());
    until("calls to be answered again", SOON, served).await;
    // Its intent was taken for that of a dead process, and is corrected to what the call did cost.
    let header = |name| answered.header(name).expect("an answer names itself");
    let (id, cost) = (header("x-tollway-request-id"), header("x-tollway-cost-usd"));
    let booked = async || (world.admin.call(id).await["cost_usd"] == json!(cost)).then_some(());
    until("the call under way to be booked", SOON, booked).await;
    let calls = world.simulator.calls().await;
    assert!(calls < 10, "{calls} calls were made, most of which could not be booked");
    world.check().await;
}

/// No half job runs, and the same upload under the same key is taken afterwards.
#[tokio::test]
async fn an_upload_during_which_the_database_dies_leaves_nothing() {
    let mut world = world("upload_postgres").await;
    let (mut body, rest) = mpsc::channel::<Result<String, std::convert::Infallible>>(1);
    let path = "/api/v1/jobs?name=again";
    let request = world.admin.request(Method::POST, path).header("idempotency-key", "k").body(Body::wrap_stream(rest));
    let upload = tokio::spawn(try_send(request));
    body.send(Ok(requests::chat(15_000))).await.expect("the gateway reads");
    let items = "select count(*) from item";
    until("the first lines", SOON, async || (world.db.number(items).await > 0).then_some(())).await;

    world.db.postgres.kill9();
    says_so(&mut world).await;
    // What comes now has nowhere to go.
    let more: String = (15_001..=40_000).map(requests::chat_line).collect();
    let _ = body.send(Ok(more)).await;
    drop(body);
    world.db.postgres.start();
    ready(&world).await;
    let answer = upload.await.expect("no panic");
    let refused = answer.as_ref().map_or(503, |answer| answer.status);
    let jobs = "select count(*) from job where state <> 'uploading'";
    if refused == 202 {
        // Quick enough to be taken whole after the restart, which is as good.
        assert_eq!(world.db.number("select sum(accepted)::bigint from job").await, 40_000);
    } else {
        assert_eq!(refused, 503, "{answer:?}");
        assert_eq!(world.db.number(jobs).await, 0, "half a job runs");
        let left = async || (world.db.left_by_submissions().await == 0).then_some(());
        until("nothing to be left of it", Duration::from_secs(90), left).await;
    }
    let again = world.admin.request(Method::POST, "/api/v1/jobs?name=other").header("idempotency-key", "k2");
    let id = e2e::client::send(again.body(requests::chat(10))).await.expect(202).json()["id"].clone();
    world.admin.ended(id.as_str().expect("an id")).await;
    world.check().await;
}

/// Not ready, but alive.
async fn says_so(world: &mut World) {
    let not_ready = async || (world.gateway.status("/readyz").await == Some(503)).then_some(());
    until("readiness to say no", SOON, not_ready).await;
    assert_eq!(world.gateway.status("/livez").await, Some(200));
    world.gateway.assert_runs();
}

async fn ready(world: &World) {
    until("readiness", SOON, async || (world.gateway.status("/readyz").await == Some(200)).then_some(())).await;
}
