//! The life of connections and streams: a replica that is replaced loses no call, a crowd of silent sockets keeps nobody out, and
//! what is open ends with its key, or is told of the process's end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use e2e::{SOON, Setup, World, catalog, client, requests, until};
use futures::StreamExt;
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Between two calls of a caller, and between two looks of a load balancer.
const CALL_INTERVAL: Duration = Duration::from_millis(20);
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// A replica as a load balancer sees it.
#[derive(Clone)]
struct Backend {
    url: String,
    is_ready: Arc<AtomicBool>,
}

impl Backend {
    /// Follows `/readyz` over a connection that is new each time.
    fn follow(url: &str) -> Self {
        let backend = Self { url: url.to_owned(), is_ready: Arc::new(AtomicBool::new(true)) };
        let seen = backend.clone();
        tokio::spawn(async move {
            loop {
                let asked = client::http().get(format!("{}/readyz", seen.url)).send().await;
                seen.is_ready.store(asked.is_ok_and(|answer| answer.status() == 200), Ordering::Relaxed);
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        });
        backend
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_replaced_loses_no_call() {
    let setup = |simulator: &_| Setup { shutdown_delay_s: 3, ..Setup::new(catalog::usual(simulator, "")) };
    let world = World::start("replaced", setup).await;
    let mut second = world.replica("second", &world.setup).await;
    let backends = [Backend::follow(&world.gateway.url), Backend::follow(&second.url)];
    let (failed, of_second) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut calls = Vec::new();
    for n in 0..400 {
        if n == 100 {
            second.signal(Signal::SIGTERM);
        }
        let ready: Vec<&Backend> = backends.iter().filter(|backend| backend.is_ready.load(Ordering::Relaxed)).collect();
        let backend = ready.get(n % ready.len().max(1)).copied().unwrap_or(&backends[0]).clone();
        if n > 100 && backend.url == second.url {
            of_second.fetch_add(1, Ordering::Relaxed);
        }
        let (caller, failed) = (world.admin.at(&backend.url), Arc::clone(&failed));
        calls.push(tokio::spawn(async move {
            let request = caller.request(Method::POST, "/v1/chat/completions").body(requests::chat_body("chat", n));
            match client::try_send(request).await {
                Ok(answer) if answer.status == 200 => {}
                other => {
                    eprintln!("call {n}: {other:?}");
                    failed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }));
        tokio::time::sleep(CALL_INTERVAL).await;
    }
    for call in calls {
        call.await.expect("no call panics");
    }
    until("the second replica to end", SOON, async || second.has_ended().then_some(())).await;
    assert_eq!(failed.load(Ordering::Relaxed), 0);
    assert!(of_second.load(Ordering::Relaxed) > 0, "nobody called it after its signal");
    world.check().await;
}

/// Three hundred sockets that say nothing, more than the process may have files.
#[tokio::test]
async fn a_crowd_of_silent_sockets_keeps_nobody_out() {
    let setup = |simulator: &_| Setup { descriptors: Some(256), slots: 8, ..Setup::new(catalog::usual(simulator, "")) };
    let mut world = World::start("crowd", setup).await;
    let mut crowd = Vec::new();
    for n in 0..300 {
        let mut socket = TcpStream::connect(world.gateway.address()).await.expect("it listens");
        if n % 3 == 0 {
            // One that begins a request and does not go on.
            socket.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nhost:").await.expect("it is taken");
        }
        crowd.push(socket);
    }
    for path in ["/livez", "/readyz"] {
        for _ in 0..20 {
            let asked = Instant::now();
            assert_eq!(world.gateway.status(path).await, Some(200), "{path}");
            assert!(asked.elapsed() < Duration::from_secs(2), "{path} took {:?}", asked.elapsed());
        }
    }
    for n in 0..20 {
        world.admin.chat(requests::chat_body("chat", n)).await.expect(200);
    }
    let mut first = crowd.swap_remove(0);
    let gone = tokio::time::timeout(SOON, first.read(&mut [0; 8])).await.expect("it gave way");
    assert!(matches!(gone, Ok(0) | Err(_)), "{gone:?}");
    world.gateway.assert_runs();
    world.check().await;
}

/// On the replica where the key was revoked, and on another one.
#[tokio::test]
async fn open_streams_end_with_their_key_on_all_replicas() {
    let world = World::start("revoked", |simulator| Setup::new(catalog::usual(simulator, ""))).await;
    let second = world.replica("second", &world.setup).await;
    world.simulator.set_latency("first", 60_000).await;
    let made = json!({"team": "ops", "name": "leaving", "role": "submit", "lanes": ["bulk"]});
    let made = world.admin.post("/api/v1/keys", made.to_string()).await.expect(201).json();
    let leaving = e2e::Client::new(&world.gateway.url, made["key"].as_str().expect("it is shown once"));
    let id = leaving.submit("", requests::chat(4)).await;
    let mut streams = Vec::new();
    for replica in [&world.gateway, &second] {
        for what in ["events", "results?follow=true"] {
            let path = format!("/api/v1/jobs/{id}/{what}");
            let response = leaving.at(&replica.url).request(Method::GET, &path).send().await.expect("an answer");
            assert_eq!(response.status(), 200);
            streams.push((what, response.bytes_stream()));
        }
    }
    let key_id = made["id"].as_str().expect("it has an id");
    world.admin.delete(&format!("/api/v1/keys/{key_id}")).await;
    let revoked = Instant::now();
    for (what, mut pieces) in streams {
        let mut said = String::new();
        let mut is_cut = false;
        while let Some(piece) = tokio::time::timeout(SOON, pieces.next()).await.expect("it ends") {
            match piece {
                Ok(piece) => said.push_str(&String::from_utf8_lossy(&piece)),
                Err(_) => is_cut = true,
            }
        }
        // A second, and what a busy machine adds.
        assert!(revoked.elapsed() < Duration::from_secs(3), "{what} ended after {:?}", revoked.elapsed());
        match what {
            "events" => assert!(said.contains("event: error") && said.contains("unauthorized"), "{said}"),
            _ => assert!(is_cut, "nobody takes it for whole"),
        }
    }
    let job = world.admin.job(&id).await;
    assert_eq!(job["counts"]["pending"], 4, "it still runs: {job}");
    world.admin.post(&format!("/api/v1/jobs/{id}/cancel"), "").await;
    world.admin.ended(&id).await;
}

#[tokio::test]
async fn a_stream_that_is_cut_at_the_end_of_the_drain_says_so() {
    let setup = |simulator: &_| Setup { drain_s: 1, ..Setup::new(catalog::usual(simulator, "")) };
    let world = World::start("cut", setup).await;
    world.simulator.set("first", json!({"stream_pace_ms": 3000})).await;
    let body = r#"{"model":"chat","stream":true,"messages":[{"role":"user","content":"question 1"}]}"#;
    let response = world.admin.request(Method::POST, "/v1/chat/completions").body(body).send().await;
    let mut pieces = response.expect("an answer").bytes_stream();
    let mut said = Vec::new();
    said.extend_from_slice(&pieces.next().await.expect("a first piece").expect("whole"));
    world.gateway.signal(Signal::SIGTERM);
    while let Some(piece) = tokio::time::timeout(SOON, pieces.next()).await.expect("it ends") {
        said.extend_from_slice(&piece.expect("it ends in order"));
    }
    let said = String::from_utf8(said).expect("text");
    assert!(!said.contains("[DONE]"), "{said}");
    let last = said.trim().rsplit("\n\n").next().and_then(|event| event.trim().strip_prefix("data: "));
    let error: Value = serde_json::from_str(last.expect("an event")).expect("JSON");
    assert_eq!((&error["error"]["type"], &error["error"]["code"]), (&json!("server_error"), &json!("unavailable")));
}
