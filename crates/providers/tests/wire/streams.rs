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
        (vec![chunk(WORD), chunk(STOP), Act::Close], ErrorClass::Cut),
        (vec![chunk(WORD), chunk(&WORD[..40]), last_chunk()], ErrorClass::Cut),
        (vec![chunk(WORD), chunk(DONE), last_chunk()], ErrorClass::Garbage),
        (vec![chunk(WORD), chunk("data: <html>\n\n"), last_chunk()], ErrorClass::Garbage),
        (vec![chunk(WORD), chunk("data: {\"error\":{\"code\":503}}\n\n"), last_chunk()], ErrorClass::Overloaded),
        (vec![chunk(WORD), chunk(&"x".repeat(17 << 20)), last_chunk()], ErrorClass::TooLarge),
    ];
    for (number, (acts, class)) in cases.into_iter().enumerate() {
        let (text, end) = streamed(acts).await;
        let error = end.expect_err("a clean end");
        assert_eq!(error.class, class, "case {number}: {error}");
        assert!(!text.is_empty() && all.starts_with(&text), "case {number}: {text}");
        assert_eq!(error.http_status, Some(200));
    }
}

const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1}}\n\n";
const ROLE: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
const COMMENT: &str = ": processing\n\n";

#[tokio::test]
async fn a_stream_that_leaves_out_its_last_event_is_whole_when_every_choice_is_finished() {
    let (text, end) = streamed(vec![chunk(WORD), chunk(STOP), chunk(USAGE), last_chunk()]).await;
    assert_eq!(text, [WORD, STOP, DONE].concat(), "callers wait for the last event");
    assert_eq!(end.unwrap().usage.and_then(|usage| usage.total()), Some(6));
    // The blank line after the last event is missing too.
    let (text, end) = streamed(vec![chunk(WORD), chunk(STOP.trim_end()), last_chunk()]).await;
    assert_eq!((text, end.is_ok()), ([WORD, STOP, DONE].concat(), true));
    let second = WORD.replace("\"index\":0", "\"index\":1");
    let (_, end) = streamed(vec![chunk(WORD), chunk(&second), chunk(STOP), last_chunk()]).await;
    assert_eq!(end.expect_err("the second choice is not finished").class, ErrorClass::Cut);
}

#[tokio::test]
async fn events_without_data_are_dropped() {
    let acts =
        vec![chunk("data:\n\n"), chunk(WORD), chunk("data: \n\nid: 3\n\n"), chunk(STOP), chunk(DONE), last_chunk()];
    let (text, end) = streamed(acts).await;
    assert_eq!((text, end.is_ok()), ([WORD, STOP, DONE].concat(), true));
}

#[tokio::test]
async fn nothing_is_committed_before_the_first_content() {
    let failing = [
        (
            vec![chunk("event: error\ndata: {\"error\":{\"type\":\"overloaded_error\"}}\n\n"), last_chunk()],
            ErrorClass::Overloaded,
        ),
        (vec![last_chunk()], ErrorClass::Cut),
        (vec![chunk(COMMENT), chunk("data: {\"error\":{\"code\":429}}\n\n"), last_chunk()], ErrorClass::Throttled),
        (vec![chunk(DONE), last_chunk()], ErrorClass::Garbage),
        (vec![chunk(ROLE), Act::Close], ErrorClass::Cut),
        (vec![chunk(ROLE), chunk(COMMENT), chunk("data: <html>\n\n"), last_chunk()], ErrorClass::Garbage),
        (vec![chunk(USAGE), last_chunk()], ErrorClass::Cut),
    ];
    for (number, (acts, class)) in failing.into_iter().enumerate() {
        let server = Server::answering([vec![send(EVENTS)], acts].concat()).await;
        let error = stream(&server.target()).await.map(|_| ()).expect_err("it began");
        assert_eq!((error.class, error.http_status), (class, Some(200)), "case {number}: {error}");
    }
    let comments = std::iter::repeat_n(chunk(&COMMENT.repeat(10_000)), 120);
    let server = Server::answering([send(EVENTS)].into_iter().chain(comments).collect()).await;
    let mut target = server.target();
    target.max_event = 1 << 20;
    let error = stream(&target).await.map(|_| ()).expect_err("it began");
    assert_eq!(error.class, ErrorClass::TooLarge);
}

#[tokio::test]
async fn a_stream_begins_with_its_first_content_and_loses_nothing() {
    let pause = Duration::from_millis(300);
    let acts = vec![
        send(EVENTS),
        chunk(COMMENT),
        chunk(ROLE),
        Act::Pause(pause),
        chunk(WORD),
        Act::Pause(pause),
        chunk(STOP),
        chunk(DONE),
        last_chunk(),
    ];
    let server = Server::answering(acts).await;
    let started = Instant::now();
    let mut answer = stream(&server.target()).await.unwrap();
    assert!(started.elapsed() >= pause, "it began before there was content");
    assert_eq!(answer.so_far().model.as_deref(), Some("m-1"));
    assert!(!answer.so_far().finish_seen, "it did not begin with its content");
    let (text, end) = drain(&mut answer).await;
    assert_eq!(text, [COMMENT, ROLE, WORD, STOP, DONE].concat());
    let end = end.unwrap();
    assert!(end.ttft.is_some_and(|ttft| ttft >= pause && ttft + pause <= end.latency), "{end:?}");
    // An answer without a word is an answer.
    let (text, end) = streamed(vec![chunk(ROLE), chunk(STOP), chunk(USAGE), chunk(DONE), last_chunk()]).await;
    assert_eq!((text, end.map(|end| end.output_bytes).unwrap()), ([ROLE, STOP, DONE].concat(), 0));
}

#[tokio::test]
async fn events_under_an_untelling_type_are_events_and_json_there_is_read_as_json() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n";
    let server = Server::answering(vec![send(head), chunk(WORD), chunk(STOP), chunk(DONE), last_chunk()]).await;
    assert!(drain(&mut stream(&server.target()).await.unwrap()).await.1.is_ok());
    let error = r#"{"error":{"type":"rate_limit_error"}}"#;
    for (body, class) in [(error, ErrorClass::Throttled), (CHAT, ErrorClass::Garbage)] {
        let server = Server::answering(vec![send(reply("200 OK", "content-type: text/plain\r\n", body))]).await;
        let error = stream(&server.target()).await.map(|_| ()).expect_err("it began");
        assert_eq!(error.class, class, "{error}");
        assert_eq!(error.usage.is_some(), body == CHAT, "what was paid for is booked");
    }
}

#[tokio::test]
async fn an_event_as_large_as_an_image_is_taken_and_a_larger_one_names_the_setting() {
    let image = WORD.replace("word", &"A".repeat(1_300_000));
    let acts = || vec![send(EVENTS), chunk(&image), chunk(STOP), chunk(DONE), last_chunk()];
    let server = Server::answering(acts()).await;
    assert!(drain(&mut stream(&server.target()).await.unwrap()).await.1.is_ok());
    let server = Server::answering(acts()).await;
    let mut target = server.target();
    target.max_event = 1 << 20;
    let error = stream(&target).await.map(|_| ()).expect_err("it began");
    assert_eq!(error.class, ErrorClass::TooLarge);
    assert!(error.message.contains("1 MiB") && error.message.contains("max_event_mb"), "{error}");
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
