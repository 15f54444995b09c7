//! Caps, as the provider sees them: never exceeded, whoever calls and through however many replicas.

use e2e::{Setup, World, catalog, requests};
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
