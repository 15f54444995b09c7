//! Plain calls.

use std::time::{Duration, Instant};

use async_compression::tokio::write::GzipEncoder;
use domain::ErrorClass;
use providers::CallError;
use tokio::io::AsyncWriteExt;

use crate::{
    server::*,
    streams::{DONE, STOP, WORD, drain},
    support::{PROMPT, chat_body, deployment},
};

#[track_caller]
pub fn fails(result: Result<providers::Answer, CallError>, class: ErrorClass) -> CallError {
    let error = result.expect_err("the call succeeded");
    assert_eq!(error.class, class, "{error:?}");
    assert!(!format!("{error} {error:?}").contains(PROMPT));
    error
}

async fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzipEncoder::new(Vec::new());
    encoder.write_all(bytes).await.unwrap();
    encoder.shutdown().await.unwrap();
    encoder.into_inner()
}

#[tokio::test]
async fn the_request_is_the_callers_with_another_model() {
    let server = Server::answering(vec![send(reply("200 OK", "x-request-id: req_7\r\n", CHAT))]).await;
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "sk-secret\n").unwrap();
    let deployment = domain::Deployment {
        credential: Some(format!("file:{}", key.path().display())),
        ..deployment(&format!("http://{}/v1", server.address))
    };
    let target = providers::Target::resolve("d", &deployment).unwrap();
    let answer = chat(&target).await.unwrap();

    assert_eq!((answer.status, &answer.body[..]), (200, CHAT.as_bytes()));
    assert_eq!(answer.model.as_deref(), Some("m-1"));
    assert_eq!(answer.provider_request_id.as_deref(), Some("req_7"));
    assert_eq!(answer.finish_reason.as_deref(), Some("stop"));
    assert_eq!(answer.usage.and_then(|usage| usage.prompt_total()), Some(5));
    let request = server.requests().remove(0);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, chat_body().replace("route", "m"));
    assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{head}");
    let id = head.split("x-client-request-id: ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
    assert_eq!(id.parse::<domain::AttemptId>().unwrap().get_version_num(), 7);
    for header in ["authorization: Bearer sk-secret", "content-type: application/json", "user-agent: tollway/"] {
        assert!(head.contains(header), "{header} is not in {head}");
    }
}

#[tokio::test]
async fn a_connection_serves_call_after_call_streams_too() {
    let events = vec![send(EVENTS), chunk(WORD), chunk(STOP), chunk(DONE), last_chunk()];
    let plain = vec![send(reply("200 OK", JSON, CHAT))];
    let refusal = vec![send(reply("529 Overloaded", JSON, "{}"))];
    let server = Server::start(vec![plain, events, refusal]).await;
    let target = server.target();
    chat(&target).await.unwrap();
    drain(&mut stream(&target).await.unwrap()).await.1.unwrap();
    fails(chat(&target).await, ErrorClass::Overloaded);
    fails(chat(&target).await, ErrorClass::Overloaded);
    assert_eq!((server.requests().len(), server.connections()), (4, 1));
}

#[tokio::test]
async fn no_listener_and_no_name_is_no_connection() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let refused = fails(chat(&target(&format!("http://{address}"))).await, ErrorClass::Connect);
    assert!(refused.message.contains("refused"), "{refused}");
    fails(chat(&target("http://no-such-host.invalid")).await, ErrorClass::Connect);
}

#[tokio::test]
async fn the_three_times_are_three_errors() {
    let started = Instant::now();
    let long = Duration::from_secs(60);
    // A listener that accepts and never shakes hands.
    let silent = Server::answering(vec![Act::Hold]).await;
    let mut tls = target(&format!("https://{}", silent.address));
    (tls.connect_timeout, tls.read_timeout, tls.total_timeout) = (Duration::from_millis(150), long, long);
    let error = fails(chat(&tls).await, ErrorClass::ConnectTimeout);
    assert!(error.message.contains("connect_timeout_ms"), "{error}");

    let mut impatient = silent.target();
    (impatient.connect_timeout, impatient.read_timeout, impatient.total_timeout) =
        (long, Duration::from_millis(150), long);
    let error = fails(chat(&impatient).await, ErrorClass::ReadTimeout);
    assert!(error.message.contains("read_timeout_ms"), "{error}");

    let mut hurried = silent.target();
    (hurried.connect_timeout, hurried.read_timeout, hurried.total_timeout) = (long, long, Duration::from_millis(150));
    let error = fails(chat(&hurried).await, ErrorClass::TotalTimeout);
    assert!(error.message.contains("total_timeout_ms"), "{error}");
    assert!(started.elapsed() < long, "{:?}", started.elapsed());
}

#[tokio::test]
async fn slow_connecting_is_no_silence() {
    let silent = Server::answering(vec![Act::Hold]).await;
    let mut tls = target(&format!("https://{}", silent.address));
    tls.connect_timeout = Duration::from_millis(400);
    tls.read_timeout = Duration::from_millis(50);
    fails(chat(&tls).await, ErrorClass::ConnectTimeout);
}

#[tokio::test]
async fn a_drip_keeps_silence_away_but_not_the_deadline() {
    let head = format!("HTTP/1.1 200 OK\r\n{JSON}content-length: {}\r\n\r\n", CHAT.len());
    let slow = Act::Drip(CHAT.into(), Duration::from_millis(20));
    let server = Server::answering(vec![send(head), slow]).await;
    let mut target = server.target();
    target.read_timeout = Duration::from_millis(1_500);
    target.total_timeout = Duration::from_millis(2_000);
    let started = Instant::now();
    fails(chat(&target).await, ErrorClass::TotalTimeout);
    assert!((2_000..10_000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_connection_lost_after_the_request_leaves_it_open_whether_it_was_done() {
    for end in [Act::Close, Act::Reset] {
        let server = Server::answering(vec![end]).await;
        fails(chat(&server.target()).await, ErrorClass::Cut);
        assert_eq!(server.requests().len(), 1, "nobody repeats a call but the engine");
    }
}

#[tokio::test]
async fn a_body_that_ends_too_early_is_cut() {
    let whole = reply("200 OK", JSON, CHAT);
    for end in [whole.len() - CHAT.len(), whole.len() - 1] {
        let server = Server::answering(vec![send(&whole[..end]), Act::Close]).await;
        let error = fails(chat(&server.target()).await, ErrorClass::Cut);
        assert_eq!(error.http_status, Some(200));
    }
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let server = Server::answering(vec![send(head), chunk(CHAT), Act::Close]).await;
    fails(chat(&server.target()).await, ErrorClass::Cut);
    // Without a length the end of the connection is the end of the body, whole or not.
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
    let server = Server::answering(vec![send(head), send(&CHAT[..CHAT.len() - 1]), Act::Close]).await;
    fails(chat(&server.target()).await, ErrorClass::Cut);
}

#[tokio::test]
async fn what_is_not_an_answer_is_garbage() {
    let garbage = [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec(),
        reply("200 OK", JSON, "<html>"),
        reply("200 OK", JSON, b"{\"choices\":\"\xff\"}"),
        reply("200 OK", JSON, "{}"),
        reply("200 OK", JSON, CHAT.replace("\"stop\"", "null")),
        reply("200 OK", "content-type: application/json\r\ncontent-encoding: gzip\r\n", CHAT),
    ];
    for bytes in garbage {
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let server = Server::answering(vec![Act::Send(bytes), Act::Close]).await;
        let error = chat(&server.target()).await.expect_err(&shown);
        assert_eq!(error.class, ErrorClass::Garbage, "{shown}: {error}");
    }
}

#[tokio::test]
async fn an_error_status_or_a_redirect_is_no_answer_whatever_its_body_says() {
    let cases = [
        ("204 No Content", "", ErrorClass::UnexpectedStatus),
        ("302 Found", "<html>", ErrorClass::UnexpectedStatus),
        ("405 No", CHAT, ErrorClass::UnexpectedStatus),
        ("410 Gone", "", ErrorClass::ModelNotFound),
        ("418 Teapot", CHAT, ErrorClass::UnexpectedStatus),
        ("404 Not Found", "<html>nginx</html>", ErrorClass::ModelNotFound),
        ("403 Forbidden", r#"{"error":{"message":"prompt blocked"}}"#, ErrorClass::RefusedContent),
        ("429 Slow", r#"{"error":{"code":"insufficient_quota"}}"#, ErrorClass::QuotaExhausted),
    ];
    for (status, body, class) in cases {
        let bytes = if body.is_empty() && status.starts_with("204") {
            format!("HTTP/1.1 {status}\r\n\r\n").into_bytes()
        } else {
            reply(status, JSON, body)
        };
        let server = Server::answering(vec![send(bytes)]).await;
        let error = fails(chat(&server.target()).await, class);
        assert!(!error.class.may_be_billed() && error.usage.is_none(), "{status}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let canary = Server::answering(vec![send(reply("200 OK", JSON, CHAT))]).await;
    let location = format!("location: http://{}/v1/chat/completions\r\n", canary.address);
    let server = Server::answering(vec![send(reply("307 Temporary Redirect", &location, ""))]).await;
    let error = fails(chat(&server.target()).await, ErrorClass::UnexpectedStatus);
    assert!(error.message.contains("base_url"), "{error}");
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn too_much_is_refused_before_it_is_read() {
    let head = format!("HTTP/1.1 200 OK\r\n{JSON}content-length: 99999999999\r\n\r\n");
    let server = Server::answering(vec![send(head), Act::Hold]).await;
    let error = fails(chat(&server.target()).await, ErrorClass::TooLarge);
    assert!(error.message.contains("64 MiB, Tollway's limit for it (max_answer_mb of the deployment)"), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_booked_by_the_usage_in_it() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let image =
        format!(r#"{{"choices":[{{"message":{{"content":"{}"}},"finish_reason":"stop"}}],"#, "A".repeat(1_300_000));
    let usage = r#""usage":{"prompt_tokens":5,"completion_tokens":2}}"#;
    let mut answers = vec![vec![send(head), chunk(&image), chunk(usage), last_chunk()]];
    answers.push(vec![send(reply("200 OK", JSON, [&image[..], usage].concat()))]);
    for acts in answers {
        let server = Server::answering(acts).await;
        assert_eq!(chat(&server.target()).await.unwrap().usage.and_then(|usage| usage.total()), Some(7));
        let mut target = server.target();
        target.max_answer = 1 << 20;
        let error = fails(chat(&target).await, ErrorClass::TooLarge);
        assert_eq!(error.usage.and_then(|usage| usage.total()), Some(7), "{error:?}");
    }
    // Without end: as much again is read, and no more.
    let mut acts = vec![send(head)];
    acts.extend(std::iter::repeat_n(chunk(&" ".repeat(1 << 20)), 4));
    let server = Server::answering([acts, vec![Act::Hold]].concat()).await;
    let mut target = server.target();
    target.max_answer = 1 << 20;
    assert_eq!(fails(chat(&target).await, ErrorClass::TooLarge).usage, None);
}

#[tokio::test]
async fn sound_json_is_taken_under_an_untelling_content_type_and_others_are_named() {
    for head in ["content-type: text/plain\r\n", "content-type: application/octet-stream\r\n", ""] {
        let server = Server::answering(vec![send(reply("200 OK", head, CHAT))]).await;
        assert_eq!(chat(&server.target()).await.unwrap().body, CHAT);
    }
    for kind in ["text/html", "image/png", "text/event-stream"] {
        let server = Server::answering(vec![send(reply("200 OK", &format!("content-type: {kind}\r\n"), CHAT))]).await;
        let error = fails(chat(&server.target()).await, ErrorClass::Garbage);
        assert!(error.message.contains(kind), "{error}");
        assert_eq!(error.usage.and_then(|usage| usage.total()), Some(7), "it was paid for");
    }
}

#[tokio::test]
async fn packed_answers_are_unpacked_and_bombs_are_not() {
    let packed = |bytes: &[u8]| reply("200 OK", &format!("{JSON}content-encoding: gzip\r\n"), bytes);
    let whole = gzip(CHAT.as_bytes()).await;
    let server = Server::answering(vec![send(packed(&whole))]).await;
    assert_eq!(chat(&server.target()).await.unwrap().body, CHAT);

    let server = Server::answering(vec![send(packed(&whole[..whole.len() - 12]))]).await;
    fails(chat(&server.target()).await, ErrorClass::Cut);

    // 512 MiB of spaces in half a megabyte.
    let mut bomb = GzipEncoder::new(Vec::new());
    for _ in 0..512 {
        bomb.write_all(&[b' '; 1 << 20]).await.unwrap();
    }
    bomb.shutdown().await.unwrap();
    let before = peak_rss();
    let server = Server::answering(vec![send(packed(&bomb.into_inner()))]).await;
    let mut target = server.target();
    target.max_answer = 8 << 20;
    fails(chat(&target).await, ErrorClass::TooLarge);
    assert!(peak_rss() - before < 64 << 20, "{before} → {}", peak_rss());
}

/// Bytes.
fn peak_rss() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<i64>().unwrap() << 10
}

#[tokio::test]
async fn a_refusal_is_told_without_the_key_and_without_the_prompt() {
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "sk-secret").unwrap();
    let told =
        format!(r#"{{"error":{{"type":"invalid_request_error","code":"too_long","message":"{PROMPT} sk-secret"}}}}"#);
    for (status, class) in [("400 Bad", ErrorClass::InvalidRequest), ("401 No", ErrorClass::Credential)] {
        let server = Server::answering(vec![send(reply(status, JSON, &told))]).await;
        let deployment = domain::Deployment {
            credential: Some(format!("file:{}", key.path().display())),
            ..deployment(&format!("http://{}/v1", server.address))
        };
        let error = fails(chat(&providers::Target::resolve("d", &deployment).unwrap()).await, class);
        assert!(!format!("{error} {error:?}").contains("sk-secret"));
        let body = error.body.as_deref().map(|body| String::from_utf8_lossy(body).into_owned());
        match class {
            ErrorClass::InvalidRequest => {
                assert_eq!(error.message, "deployment d answered 400 (invalid_request_error, too_long)");
                assert_eq!(body, Some(told.replace("sk-secret", "[redacted]")));
            }
            _ => assert_eq!(body, None),
        }
    }
}

#[tokio::test]
async fn a_refusals_body_is_bounded_and_never_waited_for() {
    let long = format!("{{\"error\":\"{}\"}}", "x".repeat(64 << 10));
    let server = Server::answering(vec![send(reply("500 No", JSON, &long))]).await;
    assert_eq!(fails(chat(&server.target()).await, ErrorClass::ServerError).body, None);
    let head = "HTTP/1.1 429 Slow\r\nretry-after: 3\r\ncontent-length: 100\r\n\r\n";
    let server = Server::answering(vec![send(head), Act::Hold]).await;
    let mut target = server.target();
    target.read_timeout = Duration::from_secs(1);
    let error = fails(chat(&target).await, ErrorClass::Throttled);
    assert_eq!(error.retry_after, Some(Duration::from_secs(3)));
}
