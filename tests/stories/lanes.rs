//! Lanes: a bulk job takes what others leave, and never what prod needs.

use e2e::{Client, SOON, Setup, World, catalog, client::send, requests, until};
use reqwest::Method;
use serde_json::{Value, json};

async fn world(story: &str) -> World {
    let world = World::start(story, |simulator| Setup { slots: 20, ..Setup::new(catalog::one(simulator, "")) }).await;
    world.simulator.set_latency("only", 50).await;
    world
}

#[tokio::test]
async fn prod_does_not_wait_for_a_bulk_job() {
    let world = world("prod").await;
    let reindex = world.key("reindex", json!({})).await;
    let chatbot = world.key("chatbot", json!({"lanes": ["prod"]})).await;
    let bulk = reindex.submit("?lane=bulk", requests::chat(4_000)).await;
    world.simulator.has_seen(100).await;
    let prod = chatbot.submit("?lane=prod", requests::chat(20)).await;
    chatbot.ended(&prod).await;
    let slowest = world.db.number("select max(queue_ms) from ledger where lane = 'prod'").await;
    assert!(slowest < 2_000, "a request in prod waited {slowest} ms");
    reindex.post(&format!("/api/v1/jobs/{bulk}/cancel"), "").await.expect(200);
    reindex.ended(&bulk).await;
    let before = "select count(*) from ledger where lane = 'bulk'
                  and requested_at <= (select max(requested_at) from ledger where lane = 'prod')";
    let before = world.db.number(before).await;
    assert!(before < 3_000, "prod was served when {before} of the bulk job's 4000 requests had begun");
    world.check().await;
}

/// A quarter of the weight, so far less of the way by the time the other is done.
#[tokio::test]
async fn standard_goes_before_bulk_by_weight() {
    let world = world("weights").await;
    let caller = world.key("search", json!({})).await;
    let bulk = caller.submit("?lane=bulk", requests::chat(2_000)).await;
    world.simulator.has_seen(50).await;
    let standard = caller.submit("?lane=standard", requests::chat(800)).await;
    caller.ended(&standard).await;
    caller.ended(&bulk).await;
    let during = begun_beside(&world).await;
    // 4 to 1 of 800 are 200; starved it would be none.
    assert!((60..=420).contains(&during), "bulk did {during} requests while standard did 800");
    world.check().await;
}

/// Inside a lane teams share, whoever came first and however much it brought.
#[tokio::test]
async fn a_team_with_a_large_job_does_not_hold_up_another() {
    let world = world("shares").await;
    let (large, small) = (world.key("large", json!({})).await, world.key("small", json!({})).await);
    let first = large.submit("", requests::chat(3_000)).await;
    world.simulator.has_seen(50).await;
    let second = small.submit("", requests::chat(300)).await;
    small.ended(&second).await;
    large.ended(&first).await;
    let during = begun_beside(&world).await;
    assert!((150..=600).contains(&during), "the large job did {during} requests while the small one did 300");
    world.check().await;
}

/// Among a team's own jobs in a lane, by what the team says.
#[tokio::test]
async fn a_more_urgent_job_of_the_same_team_goes_first() {
    let world = world("priority").await;
    let caller = world.key("search", json!({})).await;
    let first = caller.submit("", requests::chat(2_000)).await;
    world.simulator.has_seen(50).await;
    let urgent = caller.submit("?priority=10", requests::chat(200)).await;
    caller.ended(&urgent).await;
    caller.ended(&first).await;
    let during = begun_beside(&world).await;
    assert!(during < 120, "{during} requests of the other job began before the urgent one's last");
    world.check().await;
}

/// Declared through one replica, used through another, with what it gives to jobs that say nothing.
#[tokio::test]
async fn a_lane_is_made_while_everything_runs() {
    let world =
        World::start("new_lane", |simulator| Setup { slots: 20, ..Setup::new(catalog::one(simulator, "")) }).await;
    let replica = world.replica("replica", &world.setup).await;
    let lane = json!({"class": "weighted", "weight": 2, "max_percent": 20, "deadline_s": 3600, "max_attempts": 2});
    world.admin.put("/api/v1/lanes/night", &lane).await.expect(200);
    let caller = world.key("search", json!({"lanes": ["night"]})).await.at(&replica.url);
    let followed = async || {
        (caller.post("/api/v1/jobs?lane=night&dry_run=true", requests::chat(1)).await.status == 200).then_some(())
    };
    until("the other replica to follow", SOON, followed).await;
    world.simulator.set_latency("only", 30).await;
    let id = caller.submit("", requests::chat(200)).await;
    let job = caller.job(&id).await;
    assert_eq!((&job["lane"], job["deadline_at"].is_string()), (&json!("night"), true), "{job}");
    caller.ended(&id).await;
    // A fifth of the 20 slots of each of two replicas.
    let most = world.simulator.stats().await.all.max_in_flight;
    assert!((2..=8).contains(&most), "{most} calls at once");
    let refused = world.admin.delete("/api/v1/lanes/night").await.expect(409).json();
    assert!(refused["keys"].is_array(), "{refused}");
    let shown = world.gateway.run(&world.admin.key, &["lanes"]).await.expect(0);
    assert!(shown.stdout.contains("night"), "{}", shown.stdout);
    world.check().await;
}

/// Calls and requests of a lane count together: beyond its maximum share a call hears why, and none of other lanes waits for it.
#[tokio::test]
async fn callers_and_jobs_share_what_a_lane_may_have() {
    let lanes =
        "[lanes.prod]\nclass = 'strict'\nreserve_percent = 10\n[lanes.night]\nclass = 'weighted'\nmax_percent = 20\n";
    let world = World::start("callers", |simulator| {
        let other = catalog::deployment(simulator, "other", "sim-chat", "") + &catalog::route("other", &["other"]);
        Setup { slots: 20, ..Setup::new(catalog::one(simulator, "") + &other + lanes) }
    })
    .await;
    for deployment in ["only", "other"] {
        world.simulator.set_latency(deployment, 5_000).await;
    }
    let night = world.key("search", json!({"lanes": ["night"]})).await;
    let prod = world.key("chatbot", json!({"lanes": ["prod"]})).await;
    let calls = |caller: &Client, route, n: usize| {
        let call = |n| caller.request(Method::POST, "/v1/chat/completions").body(requests::chat_body(route, n));
        futures::future::join_all((0..n).map(call).map(send).collect::<Vec<_>>())
    };
    let (answers, others) = tokio::join!(calls(&night, "chat", 7), calls(&prod, "other", 60));
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert_eq!(
        (answers.iter().filter(|answer| answer.status == 200).count(), refused.len()),
        (4, 3),
        "four of 20 slots"
    );
    assert!(refused.iter().all(|answer| answer.header("retry-after") == Some("1")));
    let said = refused[0].text();
    assert!(said.contains("maximum share of lane night"), "{said}");
    assert!(others.iter().all(|answer| answer.status == 200), "prod has no maximum, and starts beyond the slots");

    // With requests waiting, each kind has its half.
    world.simulator.set_latency("only", 200).await;
    let job = night.submit("", requests::chat(120)).await;
    night.job_when(&job, "to run", |job| job["state"] == "running").await;
    let mut answered = 0;
    for _ in 0..12 {
        answered += calls(&night, "chat", 3).await.iter().filter(|answer| answer.status == 200).count();
    }
    let left = pending(&night.job(&job).await);
    assert!(answered >= 12 && left <= 110, "{answered} of 36 calls were answered, and {left} of 120 requests are left");
    night.ended(&job).await;
    let at_once = world.simulator.stats().await.deployments["only"].max_in_flight;
    assert!(at_once <= 4, "{at_once} calls at once");
    world.check().await;
}

const AGING: &str = "
[lanes.prod]
class = 'strict'
[lanes.patient]
class = 'weighted'
aging_s = 1
[lanes.forbearing]
class = 'weighted'
aging_s = 0
";

/// A strict lane that saturates all slots keeps a weighted one waiting for so long as that is willing to, and no longer.
#[tokio::test]
async fn a_lane_that_ages_is_served_beside_a_strict_one_and_one_told_not_to_is_not() {
    let setup = |simulator: &_| Setup { slots: 4, ..Setup::new(catalog::one(simulator, "") + AGING) };
    let world = World::start("aging", setup).await;
    world.simulator.set_latency("only", 50).await;
    let caller = world.key("search", json!({"lanes": ["prod", "patient", "forbearing"]})).await;
    let prod = caller.submit("?lane=prod", requests::chat(20_000)).await;
    world.simulator.has_seen(20).await;
    let patient = caller.submit("?lane=patient", requests::chat(50)).await;
    let forbearing = caller.submit("?lane=forbearing", requests::chat(50)).await;
    let served = |job: &Value| job["counts"]["succeeded"].as_i64().is_some_and(|n| n >= 4);
    caller.job_when(&patient, "to be served once a second", served).await;
    let waiting = caller.job(&forbearing).await;
    assert_eq!((pending(&waiting), &waiting["in_flight"]), (50, &json!(0)), "{waiting}");
    assert!(pending(&caller.job(&patient).await) > 20, "it took more than its turn of a strict lane");
    assert!(pending(&caller.job(&prod).await) > 1_000, "the strict lane did not saturate the slots");
    caller.post(&format!("/api/v1/jobs/{prod}/cancel"), "").await.expect(200);
    for id in [&patient, &forbearing] {
        assert_eq!(caller.ended(id).await["counts"]["succeeded"], 50);
    }
    caller.ended(&prod).await;
    world.check().await;
}

/// How many of the first job's calls began while those of the second did; both jobs are over. The ledger tells, as the
/// provider's time goes on while a test asks.
async fn begun_beside(world: &World) -> i64 {
    let begun = "with second as (
                     select min(requested_at) as low, max(requested_at) as high from ledger
                     where job_id = (select max(job_id) from job)
                 )
                 select count(*) from ledger, second
                 where job_id = (select min(job_id) from job) and requested_at between low and high";
    world.db.number(begun).await
}

fn pending(job: &Value) -> i64 {
    job["counts"]["pending"].as_i64().unwrap_or_else(|| panic!("{job}"))
}
