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
