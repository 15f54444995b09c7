use serde_json::{Value, json};
use simulator::{Config, Endpoint, Outcome, prompt_tokens};

use crate::support::{TestSim, assert_ended, start, with};

const ASK: &str = r#"{"model":"m","max_tokens":7,"messages":[{"role":"user","content":"hi"}]}"#;

fn ask(sim: &TestSim, body: &str) -> reqwest::RequestBuilder {
    sim.post("/v1/messages", body.to_owned()).header("anthropic-version", "2023-06-01")
}

#[tokio::test]
async fn a_message_is_anthropics_and_its_call_is_in_the_journal() {
    let sim = start(Config::default()).await;
    let body: Value = ask(&sim, ASK).send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!((&body["type"], &body["stop_reason"]), (&json!("message"), &json!("max_tokens")));
    assert_eq!(body["usage"]["input_tokens"], prompt_tokens(ASK.len()));
    let line = sim.only_line().await;
    assert_ended(&line, Outcome::Ok, Some(200));
    assert_eq!((line.endpoint, &*line.model, line.completion_tokens), (Endpoint::Messages, "m", 7));
}

#[tokio::test]
async fn a_message_streams_as_named_events() {
    let sim = start(with(json!({"stream_chunks": 3}))).await;
    let response = ask(&sim, &ASK.replacen('{', r#"{"stream":true,"#, 1)).send().await.expect("an answer");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = response.text().await.expect("text");
    assert!(text.starts_with("event: message_start\ndata: {\"type\":\"message_start\""), "{text}");
    assert!(text.ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"), "{text}");
    assert_ended(&sim.only_line_at_rest().await, Outcome::Ok, Some(200));
}

#[tokio::test]
async fn errors_are_in_anthropics_form() {
    let window = json!({"status": 529, "for_ms": 60_000});
    let sim = start(with(json!({"require_key": "sk", "throttle": [window]}))).await;
    let refused = async |request: reqwest::RequestBuilder| -> (u16, String) {
        let response = request.send().await.expect("an answer");
        let status = response.status().as_u16();
        let body: Value = response.json().await.expect("JSON");
        assert_eq!(body["type"], "error");
        (status, body["error"]["type"].as_str().expect("a type").to_owned())
    };
    assert_eq!(refused(ask(&sim, ASK)).await, (401, "authentication_error".into()));
    assert_eq!(refused(ask(&sim, ASK).header("x-api-key", "sk")).await, (529, "overloaded_error".into()));
    let unversioned = sim.post("/v1/messages", ASK).header("x-api-key", "sk");
    assert_eq!(refused(unversioned).await, (400, "invalid_request_error".into()));
}
