//! Synchronous calls: OpenAI's API in front, the ledger behind.

use std::time::{Duration, Instant};

use e2e::{SOON, Setup, Simulator, World, catalog, client::send, requests, until};
use futures::StreamExt;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};

async fn world(story: &str) -> World {
    World::start(story, |simulator| Setup::new(catalog::usual(simulator, ""))).await
}

const STREAMED: &str = r#"{"model":"chat","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"question 1"}]}"#;

/// What a stream said: its pieces' text, whether it ended whole, and the error it ended with.
#[derive(Debug, Default)]
struct Said {
    text: String,
    done: bool,
    usage: Option<Value>,
    error: Option<Value>,
}

fn read_events(body: &str) -> Said {
    let mut said = Said::default();
    for data in body.split("\n\n").filter_map(|event| event.trim().strip_prefix("data: ")) {
        if data == "[DONE]" {
            said.done = true;
            continue;
        }
        let event: Value = serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"));
        said.text.push_str(event["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
        said.usage = event.get("usage").filter(|usage| usage.is_object()).cloned().or(said.usage);
        said.error = event.get("error").cloned().or(said.error);
    }
    said
}

#[tokio::test]
async fn a_chat_call_is_answered_named_and_booked() {
    let world = world("chat").await;
    let request = world.admin.request(Method::POST, "/v1/chat/completions").body(requests::chat_body("chat", 1));
    let tags = "feature=search,customer=acme,environment=prod";
    let answer = send(request.header("x-tollway-lane", "prod").header("x-tollway-tags", tags)).await.expect(200);
    let body = answer.json();
    let content = body["choices"][0]["message"]["content"].as_str().expect("text");
    assert!(content.starts_with(&simulator::chat_echo(&requests::messages(1))), "{body}");
    let header = |name: &str| answer.header(name).unwrap_or_else(|| panic!("{name} is missing")).to_owned();
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("x-tollway-deployment"), "first");
    assert_eq!(header("x-tollway-model"), "sim-chat");
    assert_eq!(header("x-tollway-attempts"), "1");

    let answered = Instant::now();
    let call = world.admin.call(&header("x-tollway-request-id")).await;
    assert!(answered.elapsed() < Duration::from_secs(5), "its row came after {:?}", answered.elapsed());
    let row = &call["attempts"][0];
    assert_eq!(call["cost_usd"], json!(header("x-tollway-cost-usd")));
    let (input, output) = (body["usage"]["prompt_tokens"].as_i64(), body["usage"]["completion_tokens"].as_i64());
    assert_eq!((row["prompt_total"].as_i64(), row["output_text"].as_i64()), (input, output), "{row}");
    // $0.5 and $1.5 a million tokens: half a million and one and a half million pico-dollars a token.
    let cost = input.zip(output).map(|(input, output)| input * 500_000 + output * 1_500_000);
    assert_eq!(row["contracted_cost"].as_i64(), cost, "{row}");
    let said = json!([row["lane"], row["feature"], row["customer"], row["environment"], row["team"], row["status"]]);
    assert_eq!(said, json!(["prod", "search", "acme", "prod", "ops", "succeeded"]));
    let models = world.admin.get("/v1/models").await.expect(200).json();
    assert_eq!(models["data"].as_array().map(Vec::len), Some(2), "{models}");
    world.check().await;
}

#[tokio::test]
async fn a_streamed_call_comes_in_pieces_and_is_booked_at_its_end() {
    let world = world("stream").await;
    world.simulator.set("first", json!({"stream_pace_ms": 40})).await;
    let request = world.admin.request(Method::POST, "/v1/chat/completions").body(STREAMED);
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    assert_eq!(header("content-type").as_deref(), Some("text/event-stream"));
    assert_eq!(header("x-tollway-deployment").as_deref(), Some("first"));
    assert_eq!(header("x-tollway-cost-usd"), None, "nobody knows it yet");
    let request_id = header("x-tollway-request-id").expect("it is named");
    let (mut pieces, mut body, mut count) = (response.bytes_stream(), Vec::new(), 0);
    while let Some(piece) = pieces.next().await {
        body.extend_from_slice(&piece.expect("whole"));
        count += 1;
    }
    assert!(count > 4, "it came in {count} pieces, so it was held back");
    let said = read_events(&String::from_utf8(body).expect("text"));
    assert!(said.done && said.error.is_none(), "{said:?}");
    assert!(said.text.starts_with(&simulator::chat_echo(&requests::messages(1))), "{said:?}");
    let call = world.admin.call(&request_id).await;
    let row = &call["attempts"][0];
    assert_eq!(said.usage.expect("it was asked for")["completion_tokens"], row["output_text"], "{row}");
    assert!(row["ttft_ms"].as_i64() < row["latency_ms"].as_i64(), "{row}");

    // One that does not ask for usage gets none, and is booked as exactly.
    let unasked = STREAMED.replace(r#""stream_options":{"include_usage":true},"#, "");
    let answer = world.admin.chat(unasked).await.expect(200);
    let said = read_events(&answer.text());
    assert!(said.done && said.usage.is_none(), "{said:?}");
    let call = world.admin.call(answer.header("x-tollway-request-id").expect("it is named")).await;
    assert_eq!(call["attempts"][0]["usage_source"], "provider", "{call}");
    world.check().await;
}

#[tokio::test]
async fn embeddings_are_floats_or_base64_as_asked() {
    let world = world("direct_embed").await;
    let floats = world.admin.embeddings(r#"{"model":"embed","input":"a text"}"#).await.expect(200);
    let got: Vec<f32> = floats.json()["data"][0]["embedding"]
        .as_array()
        .expect("floats")
        .iter()
        .map(|n| n.as_f64().expect("a number") as f32)
        .collect();
    assert_eq!(got, simulator::embedding("a text", 64));
    let packed = r#"{"model":"embed","input":["a text","b"],"encoding_format":"base64"}"#;
    let packed = world.admin.embeddings(packed).await.expect(200).json();
    assert!(packed["data"][1]["embedding"].is_string(), "{packed}");
    assert_eq!(floats.header("x-tollway-deployment"), Some("vectors"));
    world.check().await;
}

/// What the provider bills is booked although nobody waits for it.
#[tokio::test]
async fn a_caller_that_hangs_up_is_booked_all_the_same() {
    let world = world("hang_up").await;
    world.simulator.set_latency("first", 600).await;
    world.simulator.set("first", json!({"stream_pace_ms": 60})).await;
    let whole = requests::chat_body("chat", 1);
    for (n, body) in [(1, whole.as_str()), (2, STREAMED)] {
        let call = world.admin.request(Method::POST, "/v1/chat/completions").body(body.to_owned()).send();
        let call = tokio::spawn(call);
        world.simulator.has_seen(n).await;
        call.abort();
        until("the row of the call", SOON, async || {
            let rows = world.db.number("select count(*) from ledger where status = 'succeeded'").await;
            (rows as u64 == n).then_some(())
        })
        .await;
    }
    // In the middle of a stream.
    let request = world.admin.request(Method::POST, "/v1/chat/completions").body(STREAMED);
    let mut pieces = request.send().await.expect("an answer").bytes_stream();
    pieces.next().await.expect("a first piece").expect("whole");
    drop(pieces);
    world.check().await;
    let whole =
        "select count(*) from ledger where status = 'succeeded' and output_text = 16 and usage_source = 'provider'";
    assert_eq!(world.db.number(whole).await, 3);
}

#[tokio::test]
async fn a_full_cap_is_said_at_once() {
    let world = World::start("full_cap", |simulator| Setup::new(catalog::one(simulator, "slots = 3"))).await;
    world.simulator.set_latency("only", 10_000).await;
    let narrow = world.key("narrow", json!({"slots": 1, "lanes": ["prod"]})).await;
    let wide = world.key("wide", json!({"lanes": ["prod"]})).await;
    let call = |caller: &e2e::Client| {
        let caller = caller.clone();
        // As SDKs do: on a busy machine the first grant of a new key takes longer than a call waits for it.
        tokio::spawn(async move {
            loop {
                let answer = caller.chat(requests::chat_body("chat", 1)).await;
                if answer.status != 429 {
                    break answer;
                }
            }
        })
    };
    let first = call(&narrow);
    world.simulator.has_seen(1).await;
    assert_limited(&narrow.request(Method::POST, "/v1/chat/completions"), "key").await;
    // The deployment's own.
    let others = [call(&wide), call(&wide)];
    world.simulator.has_seen(3).await;
    assert_limited(&wide.request(Method::POST, "/v1/chat/completions"), "deployment").await;
    first.await.expect("no panic").expect(200);
    for other in others {
        other.await.expect("no panic").expect(200);
    }
    assert_eq!(world.simulator.calls().await, 3, "a refused call was made");
    world.check().await;
}

async fn assert_limited(request: &RequestBuilder, whose: &str) {
    let began = Instant::now();
    let request = request.try_clone().expect("it has no body yet").body(requests::chat_body("chat", 2));
    let answer = send(request).await.expect(429);
    assert!(began.elapsed() < Duration::from_secs(3), "it waited for {:?}", began.elapsed());
    assert!(answer.header("retry-after").and_then(|wait| wait.parse::<u64>().ok()).is_some_and(|wait| wait >= 1));
    let error = &answer.json()["error"];
    assert_eq!(
        (&error["code"], &error["type"]),
        (&json!("rate_limit_exceeded"), &json!("rate_limit_error")),
        "{error}"
    );
    assert!(error["message"].as_str().is_some_and(|said| said.contains(whose)), "{error}");
}

/// Connect, read and total: each is an error of its own, to the caller and in the ledger.
#[tokio::test]
async fn a_provider_that_takes_too_long_is_told_apart() {
    let full = FullPort::new().await;
    let setup = |simulator: &Simulator| {
        let mut toml = catalog::PRICES.to_owned();
        toml += &catalog::deployment_at(&full.url, "unreachable", "sim-chat", "connect_timeout_ms = 300");
        toml += &catalog::deployment(simulator, "silent", "sim-chat", "read_timeout_ms = 400");
        toml += &catalog::deployment(simulator, "slow", "sim-chat", "read_timeout_ms = 5000\ntotal_timeout_ms = 500");
        for name in ["unreachable", "silent", "slow"] {
            toml += &catalog::route(name, &[name]);
        }
        Setup::new(toml)
    };
    let world = World::start("timeouts", setup).await;
    for deployment in ["silent", "slow"] {
        world.simulator.set(deployment, json!({"hang_rate": 1.0})).await;
    }
    for (model, class, setting) in [
        ("unreachable", "connect_timeout", "connect_timeout_ms"),
        ("silent", "read_timeout", "read_timeout_ms"),
        ("slow", "total_timeout", "total_timeout_ms"),
    ] {
        let began = Instant::now();
        let error = world.admin.chat(requests::chat_body(model, 1)).await.expect(504).json()["error"].clone();
        assert!(began.elapsed() < Duration::from_secs(5), "{model}: {:?}", began.elapsed());
        assert_eq!(error["code"], class, "{error}");
        assert!(error["message"].as_str().is_some_and(|said| said.contains(setting)), "{error}");
    }
    world.check().await;
    let classes = world
        .db
        .text("select string_agg(deployment || ' ' || error_class, ', ' order by deployment) from ledger")
        .await;
    assert_eq!(classes, "silent read_timeout, slow total_timeout, unreachable connect_timeout");
}

/// A port at which connections wait for ever: its queue is full and nobody accepts.
struct FullPort {
    url: String,
    _listener: tokio::net::TcpListener,
    _queued: Vec<TcpStream>,
}

impl FullPort {
    async fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a port is free");
        let listener = socket.listen(1).expect("it listens");
        let address = listener.local_addr().expect("it has an address");
        let mut queued = Vec::new();
        while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
            queued.push(stream);
            assert!(queued.len() < 16, "the queue has no end");
        }
        Self { url: format!("http://{address}/v1"), _listener: listener, _queued: queued }
    }
}

#[tokio::test]
async fn a_call_falls_back_before_its_first_byte() {
    let world = world("direct_fallback").await;
    world.simulator.outage("first", 529, Duration::from_secs(60), Some(30)).await;
    for body in [requests::chat_body("chat", 1), STREAMED.to_owned()] {
        let answer = world.admin.chat(body).await.expect(200);
        assert_eq!(answer.header("x-tollway-deployment"), Some("second"));
    }
    // Only the first call found out; the second knew.
    let rows = "select count(*) from ledger where deployment = 'first' and http_status = 529 and contracted_cost = 0";
    world.check().await;
    assert_eq!(world.db.number(rows).await, 1);

    world.simulator.outage("second", 503, Duration::from_secs(60), Some(7)).await;
    let down = world.admin.chat(requests::chat_body("chat", 2)).await.expect(503);
    let wait: u64 = down.header("retry-after").expect("it says when").parse().expect("seconds");
    assert!((1..=30).contains(&wait), "{wait}");
    world.check().await;
}

/// After the first byte there is no way back: the stream ends with an error, and what was billed is booked.
#[tokio::test]
async fn a_stream_that_breaks_is_never_taken_for_whole() {
    let world =
        World::start("broken", |simulator| Setup::new(catalog::usual(simulator, "read_timeout_ms = 500"))).await;
    // In the middle: its first words are with the caller.
    world.simulator.set("first", json!({"cut_rate": 1.0})).await;
    let answer = world.admin.chat(STREAMED).await.expect(200);
    let said = read_events(&answer.text());
    assert!(!said.done, "{said:?}");
    assert_eq!(said.error.as_ref().map(|error| &error["type"]), Some(&json!("server_error")), "{said:?}");
    let call = world.admin.call(answer.header("x-tollway-request-id").expect("it is named")).await;
    let row = &call["attempts"][0];
    assert_eq!((&row["status"], &row["error_class"]), (&json!("failed"), &json!("cut")), "{row}");
    assert!(row["contracted_cost"].as_i64() > Some(0) && row["usage_source"] == "estimated", "{row}");
    assert_eq!(call["attempts"].as_array().map(Vec::len), Some(1), "it fell back in silence: {call}");
    world.check().await;
}

/// Nothing of an answer is with the caller before its first words, so another deployment can still give all of it.
#[tokio::test]
async fn a_stream_that_breaks_before_its_first_words_falls_back() {
    let world =
        World::start("unbegun", |simulator| Setup::new(catalog::usual(simulator, "read_timeout_ms = 500"))).await;
    for (fault, class) in [
        // The role comes at once, and then nothing.
        (json!({"stream_pace_ms": 2_000}), "read_timeout"),
        (json!({"stream_pace_ms": 0, "garbage_rate": 1.0}), "garbage"),
    ] {
        world.simulator.set("first", fault).await;
        let answer = world.admin.chat(STREAMED).await.expect(200);
        let said = read_events(&answer.text());
        assert!(said.done && said.error.is_none(), "{said:?}");
        assert_eq!(answer.header("x-tollway-deployment"), Some("second"));
        let id = answer.header("x-tollway-request-id").expect("it is named").to_owned();
        let booked = async || {
            let call = world.admin.call(&id).await;
            (call["attempts"].as_array().map(Vec::len) == Some(2)).then_some(call)
        };
        let call = until("both calls to be booked", SOON, booked).await;
        let ends: Vec<_> =
            call["attempts"].as_array().expect("attempts").iter().map(|row| &row["error_class"]).collect();
        assert_eq!(ends, [&json!(class), &json!(null)], "{call}");
    }
    world.check().await;
}

/// Its own words reach the caller, who can mend the request by them.
#[tokio::test]
async fn a_request_that_the_provider_refuses_gets_the_providers_error() {
    let world = world("direct_400").await;
    let answer = world.admin.chat(requests::REFUSED_CHAT).await.expect(400);
    let error = &answer.json()["error"];
    assert_eq!(error["type"], "invalid_request_error", "{error}");
    assert!(
        error["message"].as_str().is_some_and(|said| said.contains("stream_options") || said.contains("StreamOptions")),
        "{error}"
    );
    assert_eq!(world.simulator.calls().await, 1, "it was tried again");
    world.check().await;
}

/// Uploads that wait for the database hold all the API's connections to it, and none of those that calls need.
#[tokio::test]
async fn a_crowd_of_slow_uploads_keeps_no_call_waiting() {
    let world = world("crowd").await;
    world.admin.chat(requests::chat_body("chat", 1)).await.expect(200);
    let lock = world.db.lock("idempotency").await;
    let upload = |n: usize| {
        let request = world.admin.request(Method::POST, "/api/v1/jobs").header("idempotency-key", n.to_string());
        tokio::spawn(send(request.body(requests::chat(5))))
    };
    let uploads: Vec<_> = (0..20).map(upload).collect();
    let waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%idempotency%'";
    let all = async || (world.db.number(waiting).await >= 10).then_some(());
    until("the uploads to hold all connections", SOON, all).await;
    let began = Instant::now();
    world.admin.chat(requests::chat_body("chat", 2)).await.expect(200);
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    lock.rollback().await.expect("the lock goes");
    for upload in uploads {
        upload.await.expect("an answer").expect(202);
    }
    world.check().await;
}
