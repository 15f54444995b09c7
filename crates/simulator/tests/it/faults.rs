use std::time::{Duration, Instant};

use serde_json::{Value, json};
use simulator::{Config, Outcome, prompt_tokens};

use crate::support::{ASK, assert_ended, start, with};

#[tokio::test]
async fn an_error_is_a_500_in_openais_shape() {
    let sim = start(Config { error_rate: 1.0, ..Config::default() }).await;
    let response = sim.chat().send().await.expect("an answer");
    assert_eq!(response.status(), 500);
    let body: Value = response.json().await.expect("JSON");
    assert_eq!(body["error"]["type"], "server_error");
    let line = sim.only_line().await;
    assert_ended(&line, Outcome::Error, Some(500));
    assert_eq!(line.prompt_tokens, 0);
}

#[tokio::test]
async fn garbage_is_whole_but_unreadable() {
    let sim = start(Config { garbage_rate: 1.0, ..Config::default() }).await;
    let response = sim.chat().send().await.expect("an answer");
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &"application/json".parse().expect("a value"))
    );
    let body = response.bytes().await.expect("a whole body");
    assert!(serde_json::from_slice::<Value>(&body).is_err());
    assert_ended(&sim.only_line().await, Outcome::Error, Some(200));
}

#[tokio::test]
async fn a_wrong_content_type_is_a_proxys_page() {
    let sim = start(Config { wrong_type_rate: 1.0, ..Config::default() }).await;
    let response = sim.chat().send().await.expect("an answer");
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &"text/html; charset=utf-8".parse().expect("a value"))
    );
    assert_ended(&sim.only_line().await, Outcome::Error, Some(200));
}

#[tokio::test]
async fn a_cut_body_announces_more_than_it_gives() {
    let sim = start(with(json!({"cut_rate": 1.0, "answer_bytes": 2_000}))).await;
    let heard = sim.raw(ASK).await;
    let (head, body) = heard.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.contains("content-length: 2000"), "{head}");
    assert_eq!(body.len(), 1_000);

    let line = sim.only_line().await;
    assert_ended(&line, Outcome::Cut, Some(200));
    assert_eq!((line.bytes, line.prompt_tokens), (1_000, prompt_tokens(ASK.len())));
    let error = sim.chat().send().await.expect("a head").bytes().await.expect_err("no whole body");
    assert!(error.is_body() || error.is_decode(), "{error:?}");
}

#[tokio::test]
async fn a_hung_call_lasts_until_the_client_gives_up() {
    let sim = start(Config { hang_rate: 1.0, ..Config::default() }).await;
    let waited = sim.chat().timeout(Duration::from_millis(1_000)).send().await;
    assert!(waited.expect_err("no answer").is_timeout());
    let line = sim.only_line_at_rest().await;
    assert_ended(&line, Outcome::Hung, None);
    assert!(line.ended_us.expect("an end") - line.arrived_us >= 200_000);
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_at_once() {
    let sim = start(with(json!({"latency": {"kind": "fixed", "ms": 60_000}}))).await;
    let began = Instant::now();
    let waited = sim.chat().timeout(Duration::from_millis(1_000)).send().await;
    assert!(waited.expect_err("no answer").is_timeout());
    assert_ended(&sim.only_line_at_rest().await, Outcome::ClientGone, None);
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn latency_is_waited_for() {
    let sim = start(with(json!({"latency": {"kind": "uniform", "min_ms": 30, "max_ms": 40}}))).await;
    let began = Instant::now();
    assert_eq!(sim.status(sim.chat()).await, 200);
    assert!(began.elapsed() >= Duration::from_millis(30));
}

#[tokio::test]
async fn a_throttle_window_ends() {
    let window = json!({"status": 529, "from_ms": 0, "for_ms": 3_000, "retry_after_s": 2});
    let sim = start(with(json!({"throttle": [window]}))).await;
    let refused = sim.chat().send().await.expect("an answer");
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (529, &"2".parse().expect("a value")));
    let body: Value = refused.json().await.expect("JSON");
    assert_eq!(body["error"]["type"], "overloaded_error");
    assert_ended(&sim.only_line().await, Outcome::Throttled, Some(529));

    tokio::time::sleep(Duration::from_millis(3_010)).await;
    assert_eq!(sim.status(sim.chat()).await, 200);
}

#[tokio::test]
async fn beyond_the_limit_per_minute_calls_get_429() {
    let sim = start(Config { rpm: Some(2), ..Config::default() }).await;
    assert_eq!(sim.status(sim.chat()).await, 200);
    assert_eq!(sim.status(sim.chat()).await, 200);
    let refused = sim.chat().send().await.expect("an answer");
    assert_eq!(refused.status(), 429);
    let seconds: u64 = refused.headers()["retry-after"].to_str().expect("text").parse().expect("a number");
    assert!((55..=60).contains(&seconds), "{seconds}");
    assert_eq!(sim.stats().await.all.by_outcome[&Outcome::Throttled], 1);
}
