//! Caps, as the provider sees them: never exceeded, whoever calls and through however many replicas.

use std::time::Duration;

use e2e::{SOON, Setup, World, catalog, requests, until};
use futures::future::join_all;
use serde_json::json;

#[tokio::test]
async fn a_deployments_slots_hold_over_two_replicas_and_all_callers() {
    let world = World::start("slots", |simulator| Setup::new(catalog::one(simulator, "slots = 6"))).await;
    let replica = world.replica("replica", &world.setup).await;
    world.simulator.set_latency("only", 30).await;
    let id = world.admin.submit("", requests::chat(400)).await;
    let (here, there) = (world.admin.clone(), world.admin.at(&replica.url));
    let calls = (0..60).map(|n| {
        let caller = if n % 2 == 0 { here.clone() } else { there.clone() };
        async move { caller.chat(requests::chat_body("chat", n)).await.status }
    });
    let statuses = join_all(calls).await;
    assert!(statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
    let job = world.admin.ended(&id).await;
    assert_eq!(job["counts"]["succeeded"], 400, "{job}");
    let most = world.simulator.stats().await.all.max_in_flight;
    assert!((4..=6).contains(&most), "{most} calls at once; 6 are allowed, and should be used");
    world.check().await;
}

/// A limit with room refuses nobody, whatever replica they come to and however long it was quiet.
#[tokio::test]
async fn a_crowd_after_a_pause_is_not_refused_by_a_limit_with_room() {
    let world = World::start("quiet_limit", |simulator| Setup::new(catalog::one(simulator, "slots = 4096"))).await;
    let replica = world.replica("replica", &world.setup).await;
    world.simulator.set_latency("only", 20).await;
    let (here, there) = (world.admin.clone(), world.admin.at(&replica.url));
    for crowd in [8, 3, 40] {
        // Longer than what is held beyond an allotment is kept.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let calls = (0..crowd).map(|n| {
            let caller = if n % 2 == 0 { here.clone() } else { there.clone() };
            async move { caller.chat(requests::chat_body("chat", n)).await.status }
        });
        let statuses = join_all(calls).await;
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    }
    world.check().await;
}

#[tokio::test]
async fn a_teams_and_a_keys_slots_hold() {
    let world = World::start("team_slots", |simulator| {
        let teams = "[teams.capped]\nslots = 5\n[teams.laned.lanes.bulk]\nslots = 3\n";
        Setup::new(catalog::one(simulator, "") + teams)
    })
    .await;
    world.simulator.set_latency("only", 20).await;
    for (team, key, cap) in [("capped", json!({}), 5), ("laned", json!({}), 3), ("open", json!({"slots": 2}), 2)] {
        reset(&world).await;
        let caller = world.key(team, key).await;
        let id = caller.submit("", requests::chat(100)).await;
        caller.ended(&id).await;
        let most = world.simulator.stats().await.all.max_in_flight;
        assert_eq!(most, cap, "calls at once of {team}");
    }
    e2e::oracle::idle::wait(&world.db).await;
}

/// Set, lowered and lifted while a job runs, through one replica and followed by both.
#[tokio::test]
async fn a_limit_set_through_the_api_holds_on_all_replicas() {
    let world = World::start("api_limits", |simulator| Setup::new(catalog::one(simulator, ""))).await;
    let _replica = world.replica("replica", &world.setup).await;
    world.simulator.set_latency("only", 20).await;
    let caller = world.key("search", json!({})).await;
    let id = caller.submit("", requests::chat(20_000)).await;
    world.simulator.has_seen(200).await;
    for (cap, floor) in [(8, 6), (3, 2)] {
        let limit = json!({"scope": "team:search", "kind": "slots", "cap": cap});
        world.admin.put("/api/v1/limits", &limit).await.expect(200);
        // Calls that began before it may still be under way; then it holds.
        let holds = async || {
            reset(&world).await;
            tokio::time::sleep(Duration::from_millis(400)).await;
            let most = world.simulator.stats().await.all.max_in_flight;
            (floor..=cap).contains(&most).then_some(())
        };
        until(&format!("at most {cap} calls at once"), SOON, holds).await;
        reset(&world).await;
        world.simulator.has_seen(60).await;
        let most = world.simulator.stats().await.all.max_in_flight;
        assert!(most <= cap, "{most} calls at once; {cap} are allowed");
    }
    let job = caller.job_when(&id, "to say what it waits for", |job| job["waits"]["reason"] == "team_limit").await;
    assert!(job["waiting_reason"].as_str().is_some_and(|reason| reason.contains("slots of team:search")), "{job}");
    world.admin.delete("/api/v1/limits?scope=team:search&kind=slots").await.expect(204);
    let lifted = async || (world.simulator.stats().await.all.max_in_flight > 20).then_some(());
    until("the limit to be lifted", SOON, lifted).await;
    caller.post(&format!("/api/v1/jobs/{id}/cancel"), "").await.expect(200);
    caller.ended(&id).await;
}

/// A bucket of two calls, and a provider that refuses twenty: none of them was the caller's doing.
#[tokio::test]
async fn refused_calls_burn_no_limit_of_their_caller() {
    let world = World::start("burn", |simulator| Setup::new(catalog::one(simulator, ""))).await;
    let caller = world.key("search", json!({"rpm": 20})).await;
    world.simulator.outage("only", 429, Duration::from_secs(600), Some(1)).await;
    let refused = async || {
        let calls = (0..20).map(|n| caller.chat(requests::chat_body("chat", n)));
        join_all(calls).await.iter().all(|answer| answer.status != 200).then_some(())
    };
    until("twenty refused calls", SOON, refused).await;
    world.simulator.set("only", json!({"throttle": null})).await;
    let is_back = async || (world.admin.chat(requests::chat_body("chat", 1)).await.status == 200).then_some(());
    until("the provider to be back", SOON, is_back).await;
    for n in 0..2 {
        // As SDKs do: on a busy machine a grant takes longer than a call waits for it. One that was burnt takes longer than this.
        let answer = until("an answer", Duration::from_secs(3), async || {
            let answer = caller.chat(requests::chat_body("chat", n)).await;
            (answer.status != 429).then_some(answer)
        });
        answer.await.expect(200);
    }
    let third = caller.chat(requests::chat_body("chat", 3)).await.expect(429);
    let until = third.header("retry-after").and_then(|after| after.parse().ok()).unwrap_or(0u64);
    let text = third.text();
    assert!(text.contains("Tollway's limit rpm 20 of key:") && text.contains("is used up until 20"), "{text}");
    assert!((1..=4).contains(&until), "a call comes in every three seconds: {until}");
    world.check().await;
}

/// Statistics start anew; the journal does too.
async fn reset(world: &World) {
    let url = format!("{}/sim/reset?only=journal", world.simulator.url);
    e2e::client::send(e2e::client::http().post(url)).await.expect(204);
}

/// A bucket of a tenth of a minute's cap that fills at nine tenths: no minute sees more than the cap.
#[tokio::test]
async fn requests_a_minute_hold_in_every_interval() {
    // Lanes without a reserve of their own share 90 % of it.
    let (burst, per_s) = (108.0, 16.2);
    let world = World::start("rpm", |simulator| Setup::new(catalog::one(simulator, "rpm = 1200"))).await;
    let id = world.admin.submit("", requests::chat(190)).await;
    let job = world.admin.ended(&id).await;
    assert_eq!(job["counts"]["succeeded"], 190, "{job}");
    let arrived: Vec<u64> = world.simulator.journal().await.iter().map(|call| call.arrived_us).collect();
    for (i, from) in arrived.iter().enumerate() {
        for (j, to) in arrived.iter().enumerate().skip(i) {
            let seconds = (to - from) as f64 / 1e6;
            let (calls, allowed) = ((j - i + 1) as f64, burst + per_s * seconds);
            // A few may be on their way between the grant and the provider.
            assert!(calls <= allowed + 8.0, "{calls} calls within {seconds} s; {allowed} are allowed");
        }
    }
    world.check().await;
}
