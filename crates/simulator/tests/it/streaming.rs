use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::{Value, json};
use simulator::{Config, Outcome, prompt_tokens};

use crate::support::{assert_ended, start, streamed, with};

#[tokio::test]
async fn a_stream_is_openais_with_usage_and_done() {
    let sim = start(with(json!({"stream_chunks": 4}))).await;
    let body = streamed();
    let response = sim.post("/v1/chat/completions", body.clone()).send().await.expect("an answer");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = response.text().await.expect("text");
    let data: Vec<&str> = text.split_terminator("\n\n").map(|e| e.strip_prefix("data: ").expect("data")).collect();
    assert_eq!((data.len(), data[7]), (8, "[DONE]"));
    let usage: Value = serde_json::from_str(data[6]).expect("JSON");
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["prompt_tokens"], prompt_tokens(body.len()));

    let line = sim.only_line().await;
    assert_ended(&line, Outcome::Ok, Some(200));
    assert_eq!((line.completion_tokens, line.bytes), (16, text.len() as u64));
}

#[tokio::test]
async fn a_paced_stream_comes_in_pieces() {
    let sim = start(with(json!({"stream_chunks": 4, "stream_pace_ms": 20}))).await;
    let began = Instant::now();
    let response = sim.post("/v1/chat/completions", streamed()).send().await.expect("an answer");
    let pieces = response.bytes_stream().count().await;
    // Eight events with seven pauses; the network may join two events, but hardly all of them.
    assert!(began.elapsed() >= Duration::from_millis(7 * 20));
    assert!(pieces >= 4, "{pieces} pieces");
}

#[tokio::test]
async fn a_reader_that_leaves_pays_for_what_it_heard() {
    let sim = start(with(json!({"stream_chunks": 16, "stream_pace_ms": 15}))).await;
    let response = sim.post("/v1/chat/completions", streamed()).send().await.expect("an answer");
    let mut pieces = response.bytes_stream();
    for _ in 0..4 {
        pieces.next().await.expect("a piece").expect("bytes");
    }
    drop(pieces);
    let line = sim.only_line_at_rest().await;
    assert_ended(&line, Outcome::ClientGone, Some(200));
    assert!((2..16).contains(&line.completion_tokens), "{line:?}");
}

#[tokio::test]
async fn a_cut_stream_has_no_end() {
    let sim = start(with(json!({"cut_rate": 1.0}))).await;
    for pace_ms in [0, 5] {
        sim.patch(json!({"stream_pace_ms": pace_ms})).await;
        let response = sim.post("/v1/chat/completions", streamed()).send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        let mut pieces = response.bytes_stream();
        let mut heard = Vec::new();
        let error = loop {
            match pieces.next().await.expect("an error before the end") {
                Ok(piece) => heard.extend_from_slice(&piece),
                Err(error) => break error,
            }
        };
        assert!(error.is_body() || error.is_decode(), "{error:?}");
        let heard = String::from_utf8(heard).expect("UTF-8");
        assert!(heard.contains("\"content\"") && !heard.contains("[DONE]"), "{heard}");
    }
    for line in sim.journal().await {
        assert_ended(&line, Outcome::Cut, Some(200));
        assert!((1..16).contains(&line.completion_tokens), "{line:?}");
    }
}

#[tokio::test]
async fn a_garbled_stream_is_no_json() {
    let sim = start(Config { garbage_rate: 1.0, ..Config::default() }).await;
    let response = sim.post("/v1/chat/completions", streamed()).send().await.expect("an answer");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = response.text().await.expect("text");
    let first = text.lines().next().and_then(|l| l.strip_prefix("data: ")).expect("data");
    assert!(serde_json::from_str::<Value>(first).is_err());
    assert_ended(&sim.only_line().await, Outcome::Error, Some(200));
}
