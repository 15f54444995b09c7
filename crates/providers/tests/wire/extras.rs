//! What Tollway adds to a request, and providers that will not have it.

use domain::{Endpoint, ErrorClass};

use crate::{
    calls::fails,
    server::*,
    streams::{DONE, STOP, WORD, drain},
};

const EMBEDDED: &str = r#"{"data":[{"index":0,"embedding":[1,0.5]}],"usage":{"prompt_tokens":1}}"#;

#[tokio::test]
async fn a_provider_that_refuses_base64_is_asked_for_floats_from_then_on() {
    let refusal = reply("400 Bad", JSON, r#"{"error":{"message":"encoding_format: extra fields not permitted"}}"#);
    let floats = reply("200 OK", JSON, EMBEDDED);
    let server = Server::start(vec![vec![send(refusal)], vec![send(floats)]]).await;
    let target = server.target();
    let body = r#"{"model":"route","input":"a"}"#;
    for _ in 0..2 {
        let answer = call(&target, Endpoint::Embeddings, body).await.unwrap();
        assert_eq!(answer.vectors.map(|vectors| (vectors.count, vectors.dims)), Some((1, 2)));
    }
    let asked: Vec<bool> = server.requests().iter().map(|request| request.contains("base64")).collect();
    assert_eq!(asked, [true, false, false]);
}

#[tokio::test]
async fn a_refusal_of_what_the_caller_said_is_the_callers() {
    let refusal = reply("400 Bad", JSON, r#"{"error":{"message":"encoding_format: unknown"}}"#);
    let server = Server::answering(vec![send(refusal)]).await;
    let body = r#"{"model":"route","input":"a","encoding_format":"base32"}"#;
    fails(call(&server.target(), Endpoint::Embeddings, body).await, ErrorClass::InvalidRequest);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_provider_that_refuses_stream_options_streams_without() {
    let refusal = reply("422 Bad", JSON, r#"{"detail":[{"loc":["body","stream_options","include_usage"]}]}"#);
    let events = vec![send(EVENTS), chunk(WORD), chunk(STOP), chunk(DONE), last_chunk()];
    let server = Server::start(vec![vec![send(refusal)], events]).await;
    let target = server.target();
    for _ in 0..2 {
        let end = drain(&mut stream(&target).await.unwrap()).await.1.unwrap();
        assert_eq!(end.usage, None);
    }
    let asked: Vec<bool> = server.requests().iter().map(|request| request.contains("include_usage")).collect();
    assert_eq!(asked, [true, false, false]);
}

/// `false` for each request that asked for base64.
fn plain(server: &Server) -> Vec<bool> {
    server.requests().iter().map(|request| !request.contains("base64")).collect()
}

#[tokio::test]
async fn a_plain_refusal_is_answered_by_one_try_without_what_was_added() {
    let floats = vec![send(reply("200 OK", JSON, EMBEDDED))];
    for refusal in [
        reply("400 Bad", JSON, r#"{"error":{"message":"Bad request","type":"invalid_request_error"}}"#),
        reply("404 Not Found", "", "<html>"),
        reply("422 No", JSON, r#"{"detail":"no"}"#),
    ] {
        let server = Server::start(vec![vec![send(refusal)], floats.clone()]).await;
        let target = server.target();
        for body in [r#"{"model":"route","input":"a"}"#, r#"{"model":"route","input":"a","encoding_format":"base64"}"#]
        {
            assert!(call(&target, Endpoint::Embeddings, body).await.is_ok());
        }
        assert_eq!(plain(&server), [false, true, true], "remembered, for who asks for base64 too");
    }
}

#[tokio::test]
async fn a_server_error_is_blamed_on_an_addition_the_second_time() {
    let (error, floats) = (vec![send(reply("500 Oops", "", "oops"))], vec![send(reply("200 OK", JSON, EMBEDDED))]);
    let server = Server::start(vec![error.clone(), floats.clone(), error, floats]).await;
    let target = server.target();
    for _ in 0..3 {
        call(&target, Endpoint::Embeddings, r#"{"model":"route","input":"a"}"#).await.unwrap();
    }
    assert_eq!(plain(&server), [false, true, false, true, true]);
}

#[tokio::test]
async fn a_refusal_that_says_why_and_one_after_a_good_answer_are_not_the_additions_fault() {
    let said = r#"{"error":{"type":"invalid_request_error","code":"context_length_exceeded"}}"#;
    let server = Server::answering(vec![send(reply("400 Bad", JSON, said))]).await;
    let body = r#"{"model":"route","input":"a"}"#;
    fails(call(&server.target(), Endpoint::Embeddings, body).await, ErrorClass::InvalidRequest);
    assert_eq!(server.requests().len(), 1);
    let replies = vec![vec![send(reply("200 OK", JSON, EMBEDDED))], vec![send(reply("400 Bad", "", ""))]];
    let server = Server::start(replies).await;
    let target = server.target();
    call(&target, Endpoint::Embeddings, body).await.unwrap();
    fails(call(&target, Endpoint::Embeddings, body).await, ErrorClass::InvalidRequest);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn vectors_packed_in_another_form_are_asked_for_as_floats_once_and_both_calls_are_booked() {
    // 0.6 and -0.8 as doubles, and as floats in big-endian order.
    for packed in ["MzMzMzMz4z+amZmZmZnpvw==", "PxmZmr9MzM0="] {
        let doubles = format!(r#"{{"data":[{{"index":0,"embedding":"{packed}"}}],"usage":{{"prompt_tokens":1}}}}"#);
        let replies = vec![vec![send(reply("200 OK", JSON, doubles))], vec![send(reply("200 OK", JSON, EMBEDDED))]];
        let server = Server::start(replies).await;
        let target = server.target();
        let body = r#"{"model":"route","input":"a","encoding_format":"base64"}"#;
        let answer = call(&target, Endpoint::Embeddings, body).await.unwrap();
        assert_eq!(answer.vectors.map(|vectors| (vectors.count, vectors.dims)), Some((1, 2)));
        assert_eq!(answer.usage.and_then(|usage| usage.prompt_total()), Some(2));
        let again = call(&target, Endpoint::Embeddings, body).await.unwrap();
        assert_eq!(again.usage.and_then(|usage| usage.prompt_total()), Some(1));
        assert_eq!(plain(&server), [false, true, true]);
    }
}
