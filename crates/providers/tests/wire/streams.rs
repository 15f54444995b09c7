//! Streamed calls.

use std::time::{Duration, Instant};

use domain::ErrorClass;
use providers::{AnswerStream, CallError, StreamEvent};

use crate::server::*;

pub const WORD: &str =
    "data: {\"model\":\"m-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word\"},\"finish_reason\":null}]}\n\n";
pub const STOP: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
pub const DONE: &str = "data: [DONE]\n\n";

/// All chunks as text, and how it ended.
pub async fn drain(stream: &mut AnswerStream) -> (String, Result<providers::StreamEnd, CallError>) {
    let mut text = String::new();
    while let Some(event) = stream.next().await {
        match event {
            Ok(StreamEvent::Chunk(bytes)) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
            Ok(StreamEvent::End(end)) => {
                assert!(stream.next().await.is_none());
                return (text, Ok(end));
            }
            Err(error) => {
                assert!(stream.next().await.is_none());
                return (text, Err(error));
            }
        }
    }
    panic!("the stream ended without an end or an error");
}

async fn streamed(acts: Vec<Act>) -> (String, Result<providers::StreamEnd, CallError>) {
    let server = Server::answering([vec![send(EVENTS)], acts].concat()).await;
    let mut answer = stream(&server.target()).await.unwrap();
    drain(&mut answer).await
}

#[tokio::test]
async fn a_whole_stream_ends_cleanly() {
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1}}\n\n";
    let (text, end) = streamed(vec![chunk(WORD), chunk(STOP), chunk(usage), chunk(DONE), last_chunk()]).await;
    assert_eq!(text, [WORD, STOP, DONE].concat());
    let end = end.unwrap();
    assert_eq!((end.output_bytes, end.finish_seen, end.model.as_deref()), (4, true, Some("m-1")));
    assert_eq!(end.usage.and_then(|usage| usage.output_total()), Some(1));
    assert!(end.ttft.is_some_and(|ttft| ttft <= end.latency));
}

#[tokio::test]
async fn a_stream_whose_connection_lingers_still_ends() {
    let server = Server::answering(vec![send(EVENTS), chunk(WORD), chunk(STOP), chunk(DONE), Act::Hold]).await;
    let mut target = server.target();
    (target.read_timeout, target.total_timeout) = (Duration::from_secs(60), Duration::from_secs(60));
    let started = Instant::now();
    let (_, end) = drain(&mut stream(&target).await.unwrap()).await;
    assert!(end.is_ok() && started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_stream_never_ends_cleanly_by_being_cut() {
    let all = [WORD, STOP].concat();
    let cases = [
        (vec![chunk(WORD), Act::Close], ErrorClass::Cut),
        (vec![chunk(WORD), Act::Reset], ErrorClass::Cut),
        (vec![chunk(WORD), last_chunk()], ErrorClass::Cut),
        (vec![chunk(WORD), chunk(STOP), last_chunk()], ErrorClass::Cut),
        (vec![chunk(WORD), chunk(&WORD[..40]), last_chunk()], ErrorClass::Cut),
        (vec![chunk(WORD), chunk(DONE), last_chunk()], ErrorClass::Garbage),
        (vec![chunk(WORD), chunk("data: <html>\n\n"), last_chunk()], ErrorClass::Garbage),
        (vec![chunk(WORD), chunk("data: {\"error\":{\"code\":503}}\n\n"), last_chunk()], ErrorClass::Overloaded),
        (vec![chunk(WORD), chunk(&"x".repeat(3 << 20)), last_chunk()], ErrorClass::TooLarge),
    ];
    for (number, (acts, class)) in cases.into_iter().enumerate() {
        let (text, end) = streamed(acts).await;
        let error = end.expect_err("a clean end");
        assert_eq!(error.class, class, "case {number}: {error}");
        assert!(!text.is_empty() && all.starts_with(&text), "case {number}: {text}");
        assert_eq!(error.http_status, Some(200));
    }
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_left_and_its_part_is_known() {
    let server = Server::answering(vec![send(EVENTS), chunk(WORD), Act::Hold]).await;
    let mut target = server.target();
    target.read_timeout = Duration::from_secs(1);
    let mut answer = stream(&target).await.unwrap();
    let (text, end) = drain(&mut answer).await;
    assert_eq!((text.as_str(), end.expect_err("a clean end").class), (WORD, ErrorClass::ReadTimeout));
    assert_eq!((answer.so_far().output_bytes, answer.so_far().finish_seen), (4, false));
}

#[tokio::test]
async fn a_stream_without_end_meets_its_deadline() {
    let words = std::iter::repeat_n([chunk(WORD), Act::Pause(Duration::from_millis(20))], 200).flatten();
    let server = Server::answering([send(EVENTS)].into_iter().chain(words).collect()).await;
    let mut target = server.target();
    target.total_timeout = Duration::from_millis(500);
    let started = Instant::now();
    let (_, end) = drain(&mut stream(&target).await.unwrap()).await;
    assert_eq!(end.expect_err("a clean end").class, ErrorClass::TotalTimeout);
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_stream_refused_is_refused_before_it_starts() {
    let plain = reply("200 OK", JSON, r#"{"error":{"type":"rate_limit_error"}}"#);
    for (bytes, class) in [
        (reply("529 Overloaded", "retry-after: 1\r\n", ""), ErrorClass::Overloaded),
        (plain, ErrorClass::Throttled),
        (reply("200 OK", JSON, CHAT), ErrorClass::Garbage),
    ] {
        let server = Server::answering(vec![Act::Send(bytes)]).await;
        assert_eq!(stream(&server.target()).await.map(|_| ()).unwrap_err().class, class);
    }
}
