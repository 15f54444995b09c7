//! Calls to a deployment of kind anthropic, byte by byte.

use std::time::Duration;

use domain::{AttemptId, Deployment, Endpoint, ErrorClass, catalog::ProviderKind};
use providers::{AnswerStream, Call, CallError, HttpClients, StreamEnd, Target};

use crate::{server::*, streams::drain, support};

const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"m-1\",\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n";
const BLOCK: &str = "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n";
const PING: &str = "event: ping\ndata: {\"type\": \"ping\"}\n\n";
const UNKNOWN: &str = "event: of_tomorrow\ndata: {\"type\":\"of_tomorrow\",\"index\":0}\n\n";
const WORD: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"word\"}}\n\n";
const REASON: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2}}\n\n";
const STOP: &str = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
const OVERLOADED: &str =
    "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
const MESSAGE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"m-1","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn","usage":{"input_tokens":5,"output_tokens":2}}"#;

fn target(server: &Server, credential: Option<String>) -> Target {
    let deployment = Deployment {
        kind: ProviderKind::Anthropic,
        max_output_tokens: Some(1_000),
        credential,
        read_timeout_ms: 2_000,
        total_timeout_ms: 10_000,
        ..support::deployment(&format!("http://{}/v1", server.address))
    };
    Target::resolve("d", &deployment).unwrap()
}

async fn stream_of(target: &Target, body: &str) -> Result<AnswerStream, CallError> {
    let provider = providers::provider(ProviderKind::Anthropic, &HttpClients::new());
    let call = Call { endpoint: Endpoint::ChatCompletions, body, attempt_id: AttemptId::now_v7() };
    provider.stream(target, &call).await
}

async fn begun(acts: Vec<Act>) -> Result<AnswerStream, CallError> {
    let server = Server::answering([vec![send(EVENTS)], acts].concat()).await;
    stream_of(&target(&server, None), &support::stream_body()).await
}

async fn streamed(acts: Vec<Act>) -> (String, Result<StreamEnd, CallError>) {
    drain(&mut begun(acts).await.unwrap()).await
}

fn words(text: &str) -> usize {
    text.matches("\"content\":\"word\"").count()
}

#[tokio::test]
async fn a_call_goes_out_as_anthropic_wants_it() {
    let server = Server::answering(vec![send(reply("200 OK", &format!("{JSON}request-id: req_7\r\n"), MESSAGE))]).await;
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "sk-ant").unwrap();
    let target = target(&server, Some(format!("file:{}", key.path().display())));
    let provider = providers::provider(ProviderKind::Anthropic, &HttpClients::new());
    let body = r#"{"model":"route","messages":[{"role":"system","content":"s"},{"role":"user","content":"u"}],"temperature":0.5}"#;
    let call = Call { endpoint: Endpoint::ChatCompletions, body, attempt_id: AttemptId::now_v7() };
    let answer = provider.call(&target, &call).await.unwrap();
    assert_eq!((answer.provider_request_id.as_deref(), answer.output_bytes), (Some("req_7"), 2));
    let request = server.requests().remove(0);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /v1/messages HTTP/1.1\r\n"), "{head}");
    for header in ["x-api-key: sk-ant", "anthropic-version: 2023-06-01", "content-type: application/json"] {
        assert!(head.lines().any(|line| line == header), "{header} in {head}");
    }
    assert!(!head.contains("authorization") && head.contains(&call.attempt_id.to_string()), "{head}");
    insta::assert_snapshot!("request", body);
}

#[tokio::test]
async fn pings_and_unknown_events_do_not_disturb_a_stream() {
    let all = [START, PING, UNKNOWN, BLOCK, PING, WORD, UNKNOWN, PING, WORD, REASON, UNKNOWN, STOP];
    let (text, end) = streamed(all.into_iter().map(chunk).chain([last_chunk()]).collect()).await;
    let end = end.unwrap();
    assert_eq!((words(&text), end.output_bytes, end.usage.and_then(|usage| usage.total())), (2, 8, Some(7)));
    assert!(text.ends_with("data: [DONE]\n\n") && !text.contains("of_tomorrow"), "{text}");
}

#[tokio::test]
async fn nothing_is_committed_before_the_first_content() {
    let failing = [
        (vec![chunk(OVERLOADED), last_chunk()], ErrorClass::Overloaded),
        (vec![chunk(START), chunk(PING), chunk(BLOCK), chunk(OVERLOADED), last_chunk()], ErrorClass::Overloaded),
        (vec![chunk(START), Act::Close], ErrorClass::Cut),
        (vec![chunk(START), chunk(BLOCK), last_chunk()], ErrorClass::Cut),
        (vec![chunk(START), chunk(STOP), last_chunk()], ErrorClass::Garbage),
        (vec![chunk(START), chunk("data: <html>\n\n"), last_chunk()], ErrorClass::Garbage),
    ];
    for (number, (acts, class)) in failing.into_iter().enumerate() {
        let error = begun(acts).await.map(|_| ()).expect_err("it began");
        assert_eq!((error.class, error.http_status), (class, Some(200)), "case {number}: {error}");
    }
    let pause = Duration::from_millis(300);
    let server = Server::answering(vec![
        send(EVENTS),
        chunk(START),
        chunk(PING),
        Act::Pause(pause),
        chunk(WORD),
        chunk(REASON),
        chunk(STOP),
        last_chunk(),
    ])
    .await;
    let started = std::time::Instant::now();
    let mut answer = stream_of(&target(&server, None), &support::stream_body()).await.unwrap();
    assert!(started.elapsed() >= pause, "it began before there was content");
    let (text, end) = drain(&mut answer).await;
    assert!(text.contains("\"role\":\"assistant\"") && words(&text) == 1 && end.is_ok(), "{text}");
}

#[tokio::test]
async fn a_stream_never_ends_cleanly_by_being_cut() {
    let half = &WORD[..60];
    for (number, (acts, class)) in [
        (vec![chunk(START), chunk(WORD), Act::Close], ErrorClass::Cut),
        (vec![chunk(START), chunk(WORD), Act::Reset], ErrorClass::Cut),
        (vec![chunk(START), chunk(WORD), last_chunk()], ErrorClass::Cut),
        (vec![chunk(START), chunk(WORD), chunk(half), last_chunk()], ErrorClass::Cut),
        (vec![chunk(START), chunk(WORD), chunk(STOP), last_chunk()], ErrorClass::Garbage),
        (vec![chunk(START), chunk(WORD), chunk(OVERLOADED), last_chunk()], ErrorClass::Overloaded),
    ]
    .into_iter()
    .enumerate()
    {
        let (text, end) = streamed(acts).await;
        let error = end.expect_err("a clean end");
        assert_eq!((error.class, words(&text), text.contains("[DONE]")), (class, 1, false), "case {number}: {error}");
        assert!(error.usage.is_some(), "what was paid for is booked");
    }
}

#[tokio::test]
async fn a_stream_without_its_last_event_is_whole_and_shows_its_usage() {
    let body = support::stream_body().replacen('{', r#"{"stream_options":{"include_usage":true},"#, 1);
    let server = Server::answering(vec![send(EVENTS), chunk(START), chunk(WORD), chunk(REASON), last_chunk()]).await;
    let (text, end) = drain(&mut stream_of(&target(&server, None), &body).await.unwrap()).await;
    assert!(end.is_ok() && text.contains("\"total_tokens\":7") && text.ends_with("data: [DONE]\n\n"), "{text}");
}

#[tokio::test]
async fn a_stream_refused_is_refused_before_it_starts() {
    let error =
        |kind: &str| format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"m"}},"request_id":"req_1"}}"#);
    for (bytes, class, wait) in [
        (reply("529 Overloaded", JSON, error("overloaded_error")), ErrorClass::Overloaded, None),
        (
            reply("429 Too Many Requests", "retry-after: 7\r\n", error("rate_limit_error")),
            ErrorClass::Throttled,
            Some(7),
        ),
        (reply("402 Payment Required", JSON, error("billing_error")), ErrorClass::QuotaExhausted, None),
        (reply("401 Unauthorized", JSON, error("authentication_error")), ErrorClass::Credential, None),
        (reply("403 Forbidden", JSON, error("permission_error")), ErrorClass::Credential, None),
        (reply("404 Not Found", JSON, error("not_found_error")), ErrorClass::ModelNotFound, None),
        (reply("413 Payload Too Large", JSON, error("request_too_large")), ErrorClass::InvalidRequest, None),
        (reply("500 Internal Server Error", JSON, error("api_error")), ErrorClass::ServerError, None),
        (reply("200 OK", JSON, error("overloaded_error")), ErrorClass::Overloaded, None),
        (reply("200 OK", "content-type: text/plain\r\n", error("overloaded_error")), ErrorClass::Overloaded, None),
        (reply("200 OK", JSON, MESSAGE), ErrorClass::Garbage, None),
        (reply("200 OK", "content-type: text/html\r\n", "<html>"), ErrorClass::Garbage, None),
    ] {
        let server = Server::answering(vec![Act::Send(bytes)]).await;
        let error = stream_of(&target(&server, None), &support::stream_body()).await.map(|_| ()).unwrap_err();
        assert_eq!((error.class, error.retry_after), (class, wait.map(Duration::from_secs)), "{error}");
        if let Some(body) = &error.body {
            assert!(body.starts_with(br#"{"error":{"message":"m""#), "{body:?}");
        }
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_translated_is_not_sent() {
    let server = Server::answering(vec![send(reply("200 OK", JSON, MESSAGE))]).await;
    let body = support::stream_body().replacen('{', r#"{"seed":7,"#, 1);
    let error = stream_of(&target(&server, None), &body).await.map(|_| ()).unwrap_err();
    assert_eq!((error.class, error.http_status), (ErrorClass::InvalidRequest, None));
    assert!(error.message.contains(": seed ") && !error.message.contains(support::PROMPT), "{error}");
    assert!(server.requests().is_empty());
}
