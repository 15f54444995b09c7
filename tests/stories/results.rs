//! Results: in line order, while the job runs and after, from any line on, in the form that was asked for.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use e2e::{Setup, Simulator, World, catalog, requests};
use futures::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};

async fn world(story: &str) -> World {
    World::start(story, |simulator| Setup { slots: 8, ..Setup::new(catalog::usual(simulator, "")) }).await
}

#[tokio::test]
async fn finished_lines_come_in_order_and_gaps_are_passed_over() {
    let setup = |simulator: &Simulator| {
        let late = catalog::deployment(simulator, "late", "sim-chat", "") + &catalog::route("late", &["late"]);
        Setup { slots: 8, ..Setup::new(catalog::usual(simulator, "") + &late) }
    };
    let world = World::start("order", setup).await;
    // One line's provider is down at first, so that later lines overtake it.
    world.simulator.set("late", json!({"error_rate": 1.0})).await;
    world.simulator.set("first", json!({"latency": {"kind": "uniform", "min_ms": 5, "max_ms": 400}})).await;
    let late = requests::line("line-10", "/v1/chat/completions", &requests::chat_body("late", 10));
    let lines = (1..=120).map(|n| if n == 10 { late.clone() } else { requests::chat_line(n) }).collect::<String>();
    let id = world.admin.submit("?max_attempts=20", lines).await;
    let seen =
        world.admin.job_when(&id, "to be half done", |job| job["counts"]["succeeded"].as_i64() >= Some(50)).await;
    let answer = world.admin.get(&format!("/api/v1/jobs/{id}/results")).await.expect(200);
    let pending: i64 = answer.header("x-tollway-pending").expect("it says so").parse().expect("a number");
    assert!((1..=seen["counts"]["pending"].as_i64().unwrap_or(0)).contains(&pending), "{pending} pending, {seen}");
    let numbers = requests::numbers(&requests::parse_lines(&answer.text()));
    assert!(numbers.len() >= 50 && numbers.is_sorted(), "{numbers:?}");
    assert!(!numbers.contains(&10) && numbers.contains(&11), "the line that waits is a gap: {numbers:?}");

    world.simulator.set("late", json!({"error_rate": 0.0})).await;
    world.admin.ended(&id).await;
    let all = world.admin.get(&format!("/api/v1/jobs/{id}/results")).await.expect(200);
    assert_eq!(all.header("x-tollway-pending"), Some("0"));
    for (n, result) in (1..).zip(requests::parse_lines(&all.text())) {
        requests::assert_answers(&result, n);
        assert_eq!(result["response"]["status_code"], 200);
        assert!(result["response"]["request_id"].is_string() && result["id"].is_string(), "{result}");
    }
    let numbers = requests::numbers(&world.admin.results(&id, "?from=101").await);
    assert_eq!(numbers, (101..=120).collect::<Vec<_>>());
    assert_eq!(world.admin.results(&id, "?from=121").await, Vec::<Value>::new());
    world.admin.get(&format!("/api/v1/jobs/{id}/results?from=0")).await.expect(400);
    world.check().await;
}

#[tokio::test]
async fn a_reader_that_follows_gets_every_line_in_order_until_the_end() {
    let world = world("follow").await;
    world.simulator.set("first", json!({"latency": {"kind": "uniform", "min_ms": 1, "max_ms": 200}})).await;
    let id = world.admin.submit("", requests::chat(400)).await;
    let path = format!("/api/v1/jobs/{id}/results?follow=true&from=11");
    let response = world.admin.request(Method::GET, &path).send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    let mut pieces = response.bytes_stream();
    let first =
        tokio::time::timeout(Duration::from_secs(20), pieces.next()).await.expect("it comes while the job runs");
    let mut text = first.expect("a piece").expect("whole").to_vec();
    let before = world.admin.job(&id).await;
    assert!(before["counts"]["pending"].as_i64() > Some(0), "the job was over before its first line came: {before}");
    while let Some(piece) = pieces.next().await {
        text.extend_from_slice(&piece.expect("whole"));
    }
    let results = requests::parse_lines(&String::from_utf8(text).expect("JSON"));
    assert_eq!(requests::numbers(&results), (11..=400).collect::<Vec<_>>());
    assert_eq!(world.admin.ended(&id).await["state"], "completed");
    world.check().await;
}

#[tokio::test]
async fn failed_lines_alone() {
    let world = world("failed").await;
    let lines: String = (1..=40)
        .map(|n| match n % 10 {
            0 => requests::line(&format!("line-{n}"), "/v1/chat/completions", requests::REFUSED_CHAT),
            _ => requests::chat_line(n),
        })
        .collect();
    let id = world.admin.submit("", lines).await;
    world.admin.ended(&id).await;
    assert_eq!(requests::numbers(&world.admin.results(&id, "?failed=true").await), [10, 20, 30, 40]);
    assert_eq!(requests::numbers(&world.admin.results(&id, "?failed=true&from=21").await), [30, 40]);
    let all = world.admin.results(&id, "").await;
    assert_eq!(requests::numbers(&all), (1..=40).collect::<Vec<_>>());
    assert!(all.iter().all(|result| result["error"].is_null() != result["error"]["message"].is_string()));
    world.check().await;
}

/// Lines of two models run apart and are shown together, those that never ran among them.
#[tokio::test]
async fn lines_of_several_models_keep_their_order() {
    let world = world("mixed").await;
    world.simulator.set_latency("vectors", 200).await;
    let lines: String =
        (1..=600).map(|n| if n % 3 == 0 { requests::embedding_line(n, "") } else { requests::chat_line(n) }).collect();
    let id = world.admin.submit("", lines).await;
    world.simulator.has_seen(150).await;
    world.admin.post(&format!("/api/v1/jobs/{id}/cancel"), "").await.expect(200);
    let job = world.admin.ended(&id).await;
    let results = world.admin.results(&id, "").await;
    assert_eq!(requests::numbers(&results), (1..=600).collect::<Vec<_>>());
    let cancelled = results.iter().filter(|result| result["error"]["code"] == "batch_cancelled").count();
    assert_eq!(job["counts"]["cancelled"], json!(cancelled), "{job}");
    assert!((1..600).contains(&cancelled), "{job}");
    let tail = world.admin.results(&id, "?from=300").await;
    assert_eq!(tail, results[299..], "a reader that goes on sees something else");
    world.check().await;
}

/// What `--watch` follows: progress while there is some, and the end as the last word.
#[tokio::test]
async fn events_tell_of_the_progress_until_the_end() {
    let world = world("events").await;
    world.simulator.set_latency("first", 100).await;
    let id = world.admin.submit("", requests::chat(200)).await;
    let events = world.admin.get(&format!("/api/v1/jobs/{id}/events")).await.expect(200);
    assert_eq!(events.header("content-type"), Some("text/event-stream"));
    let mut seen: Vec<(String, Value)> = Vec::new();
    for event in events.text().split("\n\n") {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        if let (Some(kind), Some(data)) = (field("event"), field("data")) {
            seen.push((kind.to_owned(), serde_json::from_str(data).expect("JSON")));
        }
    }
    let (last, before) = seen.split_last().expect("events");
    assert!(before.len() >= 2 && before.iter().all(|(kind, _)| kind == "progress"), "{seen:?}");
    assert_eq!((last.0.as_str(), &last.1["state"]), ("end", &json!("completed")), "{seen:?}");
    assert_eq!(last.1["counts"]["succeeded"], 200, "{seen:?}");
    let done: Vec<i64> = seen.iter().filter_map(|(_, data)| data["counts"]["succeeded"].as_i64()).collect();
    assert!(done.is_sorted() && done.len() == seen.len(), "{done:?}");
    for (_, data) in &seen {
        let count = |what: &str| data["counts"][what].as_i64().expect("a number");
        let parts = count("succeeded") + count("failed") + count("cancelled") + count("expired") + count("pending");
        assert_eq!(count("accepted"), parts, "at every moment: {data}");
    }
    world.check().await;
}

/// Embeddings come back as the provider gave them, to the last bit, in the form each line asked for.
#[tokio::test]
async fn embeddings_as_floats_as_base64_and_as_parquet() {
    let world = world("embeddings").await;
    let lines: String = (1..=30)
        .map(|n| match n % 3 {
            0 => requests::embedding_line(n, r#","encoding_format":"base64""#),
            1 => requests::embedding_line(n, r#","encoding_format":"float","dimensions":16"#),
            _ => requests::embedding_line(n, ""),
        })
        .collect();
    let id = world.admin.submit("", lines).await;
    let job = world.admin.ended(&id).await;
    assert_eq!(job["counts"]["succeeded"], 30, "{job}");
    for (n, result) in (1..).zip(world.admin.results(&id, "").await) {
        let width = if n % 3 == 1 { 16 } else { 64 };
        let data = &result["response"]["body"]["data"];
        for (at, text) in [format!("text {n}"), format!("and {n}")].iter().enumerate() {
            assert_eq!(data[at]["index"], json!(at), "{result}");
            let got = &data[at]["embedding"];
            assert_eq!(got.is_string(), n % 3 == 0, "line {n}: {got}");
            assert_eq!(floats(got), simulator::embedding(text, width), "line {n}");
        }
        assert_eq!(data.as_array().map(Vec::len), Some(2), "{result}");
    }
    let parquet = world.admin.get(&format!("/api/v1/jobs/{id}/results?format=parquet")).await.expect(200);
    assert_eq!(parquet.header("content-type"), Some("application/vnd.apache.parquet"));
    let body = &parquet.body;
    assert!(body.starts_with(b"PAR1") && body.ends_with(b"PAR1"), "{} bytes are no Parquet", body.len());
    for header in ["x-tollway-pending", "x-tollway-left-out"] {
        assert_eq!(parquet.header(header), Some("0"), "{header}");
    }
    world.admin.get(&format!("/api/v1/jobs/{id}/results?format=parquet&from=3")).await.expect(400);
    world.check().await;
}

/// A table of vectors says which requests it is without: chat, failures, and what is not finished yet.
#[tokio::test]
async fn a_table_of_vectors_says_what_it_lacks() {
    let world = world("vectors_lack").await;
    let mixed: String = (11..=15).map(|n| requests::embedding_line(n, "")).collect::<String>() + &requests::chat(3);
    let id = world.admin.submit("", mixed).await;
    world.admin.ended(&id).await;
    let parquet = world.admin.get(&format!("/api/v1/jobs/{id}/results?format=parquet")).await.expect(200);
    assert_eq!((parquet.header("x-tollway-pending"), parquet.header("x-tollway-left-out")), (Some("0"), Some("3")));
    let out = world.dir.path().join("vectors.parquet");
    let command = ["jobs", "results", &id, "--format", "parquet", "--out", out.to_str().expect("a plain path")];
    let ran = world.gateway.run(&world.admin.key, &command).await.expect(8);
    assert!(ran.stderr.contains("without 3 requests that ended without a vector"), "{}", ran.stderr);
    assert!(out.exists(), "what there is was written");

    let paused = world.admin.submit("?start_at=2099-01-01T00:00:00Z", requests::embedding_line(1, "")).await;
    let parquet = world.admin.get(&format!("/api/v1/jobs/{paused}/results?format=parquet")).await.expect(200);
    assert_eq!((parquet.header("x-tollway-pending"), parquet.header("x-tollway-left-out")), (Some("1"), Some("0")));
    world.admin.post(&format!("/api/v1/jobs/{paused}/cancel"), "").await.expect(200);
    world.admin.ended(&paused).await;
    let parquet = world.admin.get(&format!("/api/v1/jobs/{paused}/results?format=parquet")).await.expect(200);
    assert_eq!((parquet.header("x-tollway-pending"), parquet.header("x-tollway-left-out")), (Some("0"), Some("1")));
    world.check().await;
}

/// An embedding in either form.
fn floats(embedding: &Value) -> Vec<f32> {
    match embedding {
        Value::String(text) => {
            let bytes = STANDARD.decode(text).expect("base64");
            bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes"))).collect()
        }
        Value::Array(numbers) => numbers.iter().map(|n| n.as_f64().expect("a number") as f32).collect(),
        other => panic!("no embedding: {other}"),
    }
}
