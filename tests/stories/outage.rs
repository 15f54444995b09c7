//! Providers that throttle, fail or are gone: calls fall back, work waits, and an outage ends no request.

use std::time::Duration;

use e2e::{SOON, Setup, Simulator, World, catalog, requests, until};
use serde_json::{Value, json};
use simulator::{JournalLine, Outcome};

#[tokio::test]
async fn an_overloaded_deployment_is_passed_over_until_it_has_recovered() {
    let world = World::start("fallback", |simulator| Setup::new(catalog::usual(simulator, ""))).await;
    world.simulator.set_latency("second", 30).await;
    world.simulator.outage("first", 529, Duration::from_secs(600), Some(1)).await;
    let id = world.admin.submit("", requests::chat(1_000)).await;
    let job = world.admin.ended(&id).await;
    assert_eq!(job["counts"]["succeeded"], 1_000, "{job}");
    let stats = world.simulator.stats().await;
    assert!(stats.deployments["second"].calls > 0);
    let fell_back = "select count(*) from ledger where attempt_reason = 'fallback' and fallback_from = 'first'
                     and deployment = 'second' and status = 'succeeded' and attempt_no > 1";
    assert!(world.db.number(fell_back).await > 0);

    world.simulator.set("first", json!({"throttle": null})).await;
    until("the first deployment to serve again", SOON, async || {
        let id = world.admin.submit("", requests::chat(5)).await;
        world.admin.ended(&id).await;
        let first = world.simulator.stats().await.deployments.remove("first");
        first.filter(|first| first.by_outcome.contains_key(&Outcome::Ok)).map(drop)
    })
    .await;
    world.check().await;
}

#[tokio::test]
async fn when_all_deployments_are_down_work_waits_with_a_reason() {
    let world =
        World::start("all_down", |simulator| Setup { slots: 4, ..Setup::new(catalog::usual(simulator, "")) }).await;
    for deployment in ["first", "second"] {
        world.simulator.outage(deployment, 529, Duration::from_secs(10), Some(2)).await;
    }
    // One failure of its own would end a request.
    let id = world.admin.submit("?max_attempts=1", requests::chat(50)).await;
    let waiting = world.admin.job_when(&id, "to say why it waits", |job| job["waiting_reason"].is_string()).await;
    let reason = waiting["waiting_reason"].as_str().unwrap_or_default();
    assert!(reason.contains("cools down"), "{waiting}");
    assert_eq!(waiting["counts"]["pending"], 50, "{waiting}");
    let lanes = world.admin.get("/api/v1/lanes").await.expect(200).json();
    let bulk = lanes["data"].as_array().and_then(|lanes| lanes.iter().find(|lane| lane["name"] == "bulk")).cloned();
    assert!(bulk.is_some_and(|lane| lane["waiting_reason"].is_string()), "{lanes}");
    let shown = world.gateway.run(&world.admin.key, &["jobs", "show", &id]).await.expect(0);
    assert!(shown.stdout.contains("cools down"), "{}", shown.stdout);

    let job = world.admin.ended(&id).await;
    assert_eq!(job["counts"]["succeeded"], 50, "an outage dead-lettered work: {job}");
    let journal = world.simulator.journal().await;
    for deployment in ["first", "second"] {
        let calls: Vec<_> = journal.iter().filter(|call| call.deployment == deployment).collect();
        assert_waits(&calls, Duration::from_secs(2));
    }
    world.check().await;
}

/// After a refusal nothing comes before its Retry-After is over, but for what was under way.
#[track_caller]
fn assert_waits(calls: &[&JournalLine<'_>], wait: Duration) {
    let under_way = 500_000;
    let (ms, wait_us) = (1_000, wait.as_micros() as u64);
    let refusals = calls.iter().filter(|call| call.outcome == Outcome::Throttled).filter_map(|call| call.ended_us);
    for refused in refusals {
        let early = calls.iter().find(|call| {
            // Ours counts from when the refusal had come in.
            (refused + under_way..refused + wait_us - 10 * ms).contains(&call.arrived_us)
        });
        assert!(early.is_none(), "{early:?} although a call was told at {refused} to wait for {wait:?}");
    }
}

#[tokio::test]
async fn a_deployment_that_refuses_connections_costs_nothing_and_no_request() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free").local_addr().expect("it listens");
    let setup = |simulator: &Simulator| {
        let gone = catalog::deployment_at(&format!("http://{dead}/v1"), "gone", "sim-chat", "");
        let second = catalog::deployment(simulator, "second", "sim-chat", "");
        Setup::new(catalog::PRICES.to_owned() + &gone + &second + &catalog::route("chat", &["gone", "second"]))
    };
    let world = World::start("refused", setup).await;
    let id = world.admin.submit("?max_attempts=1", requests::chat(100)).await;
    let job = world.admin.ended(&id).await;
    assert_eq!(job["counts"]["succeeded"], 100, "{job}");
    let refused = "select count(*) from ledger where deployment = 'gone' and error_class = 'connect'
                   and not billable and contracted_cost = 0 and status = 'failed'";
    let all = "select count(*) from ledger where deployment = 'gone'";
    let (refused, all) = (world.db.number(refused).await, world.db.number(all).await);
    assert!(refused > 0 && refused == all, "{refused} of {all} rows of the dead deployment are free refusals");
    world.check().await;
}

/// While it cools down nothing is granted of its limit, and the job looks ever more rarely: what it is granted then must wait for it.
#[tokio::test]
async fn work_under_a_limit_goes_on_after_an_outage() {
    let world = World::start("limited_outage", |simulator| Setup::new(catalog::one(simulator, "slots = 4"))).await;
    world.simulator.outage("only", 529, Duration::from_secs(3), Some(6)).await;
    let id = world.admin.submit("", requests::chat(50)).await;
    let job = world.admin.ended(&id).await;
    assert_eq!(job["counts"]["succeeded"], 50, "{job}");
    world.check().await;
}

/// A provider that answers every call with 500 is down, whatever it says: nobody's request is to blame.
#[tokio::test]
async fn errors_of_every_call_are_an_outage_too() {
    let world = World::start("all_errors", |simulator| Setup::new(catalog::usual(simulator, ""))).await;
    for deployment in ["first", "second"] {
        world.simulator.set(deployment, json!({"error_rate": 1.0})).await;
    }
    let id = world.admin.submit("", requests::chat(300)).await;
    world.admin.job_when(&id, "to say why it waits", |job| job["waiting_reason"].is_string()).await;
    // Some rounds of probes.
    world.simulator.has_seen(world.simulator.calls().await + 6).await;
    for deployment in ["first", "second"] {
        world.simulator.set(deployment, json!({"error_rate": 0.0})).await;
    }
    let job = world.admin.ended(&id).await;
    assert_eq!(job["counts"]["succeeded"], 300, "an outage dead-lettered work: {job}");
    world.check().await;
}

/// Everything at once, a little of each: errors, rubbish, cut answers, silence and throttling.
#[tokio::test]
async fn a_flaky_provider_costs_time_and_no_request() {
    let more = "read_timeout_ms = 400\nslots = 40";
    let world = World::start("flaky", |simulator| Setup::new(catalog::usual(simulator, more))).await;
    for (seed, deployment) in [(1, "first"), (2, "second"), (3, "vectors")] {
        let weather = json!({
            "error_rate": 0.06, "garbage_rate": 0.03, "wrong_type_rate": 0.02, "cut_rate": 0.05, "hang_rate": 0.02, "seed": seed,
            "throttle": [{"status": 429, "for_ms": 600_000, "share": 0.01, "retry_after_s": 0}],
            "latency": {"kind": "lognormal", "p50_ms": 5, "p99_ms": 80},
        });
        world.simulator.set(deployment, weather).await;
    }
    let lines: String =
        (1..=800).map(|n| if n % 4 == 0 { requests::embedding_line(n, "") } else { requests::chat_line(n) }).collect();
    let id = world.admin.submit("?max_attempts=20", lines).await;
    let job = world.admin.ended(&id).await;
    assert_eq!(job["counts"]["succeeded"], 800, "{job}");
    let results = world.admin.results(&id, "").await;
    assert_eq!(requests::numbers(&results), (1..=800).collect::<Vec<_>>());
    let classes = world.db.number("select count(distinct error_class) from ledger where status = 'failed'").await;
    assert!(classes >= 5, "the weather was too good: {classes} kinds of failure");
    world.check().await;
}

/// Failures of the request's own are counted, and the last of them is its result.
#[tokio::test]
async fn a_request_that_fails_by_itself_is_dead_lettered_with_its_reason() {
    let world = World::start("dead_letter", |simulator| Setup::new(catalog::one(simulator, ""))).await;
    world.simulator.set("only", json!({"error_rate": 1.0})).await;
    let id = world.admin.submit("?max_attempts=2", requests::chat(3)).await;
    let job = world.admin.ended(&id).await;
    assert_eq!(job["counts"]["failed"], 3, "{job}");
    assert_eq!(job["state"], "completed", "{job}");
    for (n, result) in (1..).zip(world.admin.results(&id, "?failed=true").await) {
        assert_eq!(result["custom_id"], json!(format!("line-{n}")));
        assert_eq!(result["error"]["code"], "server_error", "{result}");
        assert_eq!(result["response"]["status_code"], 500, "{result}");
    }
    assert_eq!(world.simulator.calls().await, 6);
    world.check().await;
}

/// What the provider says is wrong with a request is final at once, and the caller gets to read it.
#[tokio::test]
async fn a_request_that_the_provider_refuses_is_not_tried_again() {
    let world = World::start("provider_400", |simulator| Setup::new(catalog::usual(simulator, ""))).await;
    let bad = requests::line("line-2", "/v1/chat/completions", requests::REFUSED_CHAT);
    let lines = requests::chat_line(1) + &bad + &requests::chat_line(3);
    let id = world.admin.submit("", lines).await;
    let job = world.admin.ended(&id).await;
    assert_eq!((&job["counts"]["succeeded"], &job["counts"]["failed"]), (&json!(2), &json!(1)), "{job}");
    let failed: Vec<Value> = world.admin.results(&id, "?failed=true").await;
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["response"]["status_code"], 400, "{failed:?}");
    assert_eq!(failed[0]["response"]["body"]["error"]["type"], "invalid_request_error", "{failed:?}");
    assert_eq!(failed[0]["error"]["code"], "invalid_request", "{failed:?}");
    assert_eq!(world.simulator.calls().await, 3);
    world.check().await;
}

/// The operator's wrong key is the operator's fault: work waits until it is mended.
#[tokio::test]
async fn a_refused_credential_ends_no_request() {
    let world = World::start("credential", |simulator| Setup::new(catalog::one(simulator, ""))).await;
    world.simulator.set("only", json!({"require_key": "another"})).await;
    let id = world.admin.submit("?max_attempts=1", requests::chat(3)).await;
    world.admin.job_when(&id, "to wait", |job| job["waiting_reason"].is_string()).await;
    world.simulator.set("only", json!({"require_key": null})).await;
    let job = world.admin.ended(&id).await;
    assert_eq!(job["counts"]["succeeded"], 3, "{job}");
    world.check().await;
}

/// Nobody answers at the deployment of the one team, and the other team, in the same lane, does not notice.
#[tokio::test]
async fn a_team_whose_provider_is_down_delays_nobody() {
    let setup = |simulator: &Simulator| {
        let dead = catalog::deployment_at("http://127.0.0.1:1/v1", "dead", "sim-chat", "");
        let routes = catalog::route("gone", &["dead"]);
        Setup { slots: 8, ..Setup::new(catalog::one(simulator, "") + &dead + &routes) }
    };
    let world = World::start("team_down", setup).await;
    world.simulator.set_latency("only", 20).await;
    let (stuck, other) = (world.key("stuck", json!({})).await, world.key("other", json!({})).await);
    let took = async |id: &str| {
        let job = other.ended(id).await;
        assert_eq!(job["counts"]["succeeded"], 200, "{job}");
        let took = "select (extract(epoch from job.finished_at - job.created_at) * 1000)::bigint
                    from job join team using (team_id) where team.name = 'other' order by job_id desc limit 1";
        world.db.number(took).await
    };
    // The best of three each: the machine has other things to do.
    let best = async || {
        let mut best = i64::MAX;
        for _ in 0..3 {
            best = best.min(took(&other.submit("", requests::chat(200)).await).await);
        }
        best
    };
    let alone = best().await;
    let big = stuck.submit("", requests::chat(20_000).replace("\"chat\"", "\"gone\"")).await;
    let is_stuck = |job: &Value| matches!(job["waits"]["reason"].as_str(), Some("provider_down" | "provider_cooling"));
    stuck.job_when(&big, "to say what it waits for", is_stuck).await;
    let beside = best().await;
    assert!(beside <= alone * 3 / 2 + 500, "alone it took {alone} ms, and beside the other {beside} ms");
    let job = stuck.job(&big).await;
    assert_eq!((&job["counts"]["failed"], &job["counts"]["pending"]), (&json!(0), &json!(20_000)), "{job}");
    stuck.post(&format!("/api/v1/jobs/{big}/cancel"), "").await.expect(200);
    stuck.ended(&big).await;
    world.check().await;
}
