use std::time::Duration;

use serde_json::{Value, json};
use simulator::{Config, Outcome};

use crate::support::{ASK, TestSim, start, with};

async fn json_of(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    (status, response.json().await.expect("JSON"))
}

async fn outage(sim: &TestSim, body: Value) -> (u16, Value) {
    json_of(sim.post("/sim/outage", body.to_string())).await
}

#[tokio::test]
async fn a_configuration_can_be_shown_changed_and_put_back() {
    let sim = start(with(json!({"answer_tokens": 5}))).await;
    let (_, shown) = json_of(sim.client.get(sim.url("/sim/config"))).await;
    assert_eq!(
        serde_json::from_value::<Config>(shown.clone()).expect("a configuration"),
        with(json!({"answer_tokens": 5}))
    );

    sim.patch(json!({"error_rate": 1.0})).await;
    assert_eq!(sim.status(sim.chat()).await, 500);
    let (status, put) = json_of(sim.client.put(sim.url("/sim/config")).json(&shown)).await;
    assert_eq!((status, put), (200, shown));
    assert_eq!(sim.status(sim.chat()).await, 200);
}

#[tokio::test]
async fn a_bad_configuration_is_refused_and_changes_nothing() {
    let sim = start(Config::default()).await;
    let before = json_of(sim.client.get(sim.url("/sim/config"))).await;
    for (fields, says) in [
        (json!({"error_rat": 1}), "unknown field `error_rat`"),
        (json!({"error_rate": 2, "seed": 9}), "error_rate"),
        (json!({"journal_path": "/tmp/x"}), "when the simulator starts"),
    ] {
        for request in [sim.client.patch(sim.url("/sim/config")), sim.client.put(sim.url("/sim/config"))] {
            let (status, body) = json_of(request.json(&fields)).await;
            let message = body["error"]["message"].as_str().expect("a message");
            assert!(status == 400 && message.contains(says), "{status} {message}");
        }
    }
    assert_eq!(json_of(sim.client.get(sim.url("/sim/config"))).await, before);
    assert_eq!(sim.status(sim.client.get(sim.url("/sim/nothing"))).await, 404);
    assert_eq!(sim.status(sim.client.get(sim.url("/sim/reset"))).await, 405);
}

#[tokio::test]
async fn a_start_with_a_bad_configuration_fails_with_the_reason() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let bad = Config { cut_rate: 3.0, ..Config::default() };
    let error = simulator::serve(listener, bad, std::future::pending()).await.expect_err("refused");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("cut_rate"), "{error}");
}

#[tokio::test]
async fn an_outage_hits_its_deployment_and_passes() {
    let sim = start(Config::default()).await;
    let (status, config) =
        outage(&sim, json!({"status": 529, "for_ms": 3_000, "retry_after_s": 1, "deployment": "a"})).await;
    assert_eq!((status, &config["throttle"][0]["status"]), (200, &json!(529)));
    let a = || sim.post("/d/a/v1/chat/completions", ASK);
    assert_eq!((sim.status(a()).await, sim.status(sim.chat()).await), (529, 200));
    // Changing something else does not prolong it.
    let config = sim.client.patch(sim.url("/sim/d/a/config")).json(&json!({"answer_tokens": 2}));
    assert_eq!(sim.status(config).await, 200);
    assert_eq!(sim.status(a()).await, 529);
    tokio::time::sleep(Duration::from_millis(3_010)).await;
    assert_eq!(sim.status(a()).await, 200);
    assert_eq!(sim.stats().await.deployments["a"].by_outcome[&Outcome::Throttled], 2);
}

#[tokio::test]
async fn an_outage_can_be_ended_early_and_must_make_sense() {
    let sim = start(Config::default()).await;
    outage(&sim, json!({"status": 503, "for_ms": 600_000})).await;
    assert_eq!(sim.status(sim.chat()).await, 503);
    sim.patch(json!({"throttle": []})).await;
    assert_eq!(sim.status(sim.chat()).await, 200);

    assert_eq!(outage(&sim, json!({"status": 200, "for_ms": 1})).await.0, 400);
    assert_eq!(outage(&sim, json!({"status": 529, "for_ms": 1, "share": 2})).await.0, 400);
    assert_eq!(outage(&sim, json!({"status": 529, "for_ms": 1, "deployment": "a/b"})).await.0, 404);
}

#[tokio::test]
async fn a_reset_brings_the_start_back() {
    let sim = start(with(json!({"rpm": 2, "deployments": {"b": {"answer_tokens": 7}}}))).await;
    for _ in 0..3 {
        sim.status(sim.chat()).await;
    }
    let b = || sim.client.patch(sim.url("/sim/d/b/config")).json(&json!({"answer_tokens": 1, "rpm": 9}));
    sim.status(b()).await;

    assert_eq!(sim.status(sim.post("/sim/reset?only=journal", "")).await, 204);
    assert!(sim.journal().await.is_empty());
    let (_, config) = json_of(sim.client.get(sim.url("/sim/d/b/config"))).await;
    assert_eq!((&config["answer_tokens"], &config["rpm"]), (&json!(1), &json!(9)));
    // The minute is forgotten too.
    assert_eq!(sim.status(sim.chat()).await, 200);

    assert_eq!(sim.status(sim.post("/sim/reset?only=config", "")).await, 204);
    let (_, config) = json_of(sim.client.get(sim.url("/sim/d/b/config"))).await;
    assert_eq!((&config["answer_tokens"], &config["rpm"]), (&json!(7), &json!(2)));
    assert_eq!(sim.journal().await.len(), 1);

    assert_eq!(sim.status(sim.post("/sim/reset", "")).await, 204);
    assert_eq!(sim.stats().await.all.calls, 0);
    assert_eq!(sim.status(sim.post("/sim/reset?only=half", "")).await, 400);
}

#[tokio::test]
async fn one_caller_meets_the_same_fates_in_every_run() {
    let config = || with(json!({"error_rate": 0.5, "seed": 11}));
    let mut runs = Vec::new();
    for _ in 0..2 {
        let sim = start(config()).await;
        let mut statuses = Vec::new();
        for _ in 0..30 {
            statuses.push(sim.status(sim.chat()).await);
        }
        runs.push(statuses);
    }
    assert_eq!(runs[0], runs[1]);
    assert!(runs[0].contains(&200) && runs[0].contains(&500));
}
