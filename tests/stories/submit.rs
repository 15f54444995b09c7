//! A developer submits a job: in every form, once whatever is repeated, and hears when it has ended.

use std::{fmt::Write, time::Duration};

use async_compression::tokio::bufread::GzipEncoder;
use base64::{Engine, engine::general_purpose::STANDARD};
use e2e::{
    Answer, Client, SOON, Setup, World, catalog,
    client::{send, try_send},
    gateway::PEPPER,
    receiver::{Delivery, Receiver},
    requests, until,
};
use futures::{SinkExt, channel::mpsc, future::join_all};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Body, Method};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn world(story: &str) -> World {
    World::start(story, |simulator| Setup::new(catalog::usual(simulator, ""))).await
}

/// One that takes a hundred uploads of one key at once.
async fn wide_world(story: &str) -> World {
    let setup = |simulator: &_| Setup { server: "max_uploads = 256", ..Setup::new(catalog::usual(simulator, "")) };
    World::start(story, setup).await
}

#[tokio::test]
async fn jsonl_with_its_parameters_in_three_places() {
    let world = world("jsonl").await;
    let first = json!({"job": {"name": "of the file", "lane": "bulk", "tags": {"feature": "file", "sprint": "7"}, "priority": 3}});
    let path = "/api/v1/jobs?name=of%20the%20query&tags=feature=query";
    let request = world.admin.request(Method::POST, path).header("x-tollway-name", "of the header");
    let request = request.header("x-tollway-lane", "standard").header("x-tollway-tags", "feature=header,customer=acme");
    let answer = send(request.body(format!("{first}\n{}", requests::chat(10)))).await.expect(202);
    let job = answer.json();
    let id = job["id"].as_str().expect("an id");
    assert_eq!(answer.header("location"), Some(format!("/api/v1/jobs/{id}").as_str()));
    let said = json!([job["name"], job["lane"], job["tags"], job["priority"], job["team"], job["counts"]["accepted"]]);
    let tags = json!({"feature": "query", "customer": "acme", "sprint": "7"});
    assert_eq!(said, json!(["of the query", "standard", tags, 3, "ops", 10]));
    world.admin.ended(id).await;
    let booked = "select count(*) from ledger where feature = 'query' and customer = 'acme' and lane = 'standard'
                  and tags_json::jsonb ->> 'sprint' = '7' and team = 'ops'";
    assert_eq!(world.db.number(booked).await, 10);
    world.check().await;
}

#[tokio::test]
async fn a_json_body_and_gzip_are_the_same_job() {
    let world = world("forms").await;
    let lines = requests::chat(50);
    let jobs = "/api/v1/jobs";
    let zipped = gzip(&lines).await;
    let json = requests::json_body(&json!({"name": "small"}), &lines);
    let forms = [
        world.admin.request(Method::POST, jobs).body(lines.clone()),
        world.admin.request(Method::POST, jobs).header("content-type", "application/json").body(json),
        world.admin.request(Method::POST, jobs).header("content-encoding", "gzip").body(zipped.clone()),
        // Not announced.
        world.admin.request(Method::POST, jobs).body(zipped),
    ];
    for form in forms {
        let job = send(form).await.expect(202).json();
        assert_eq!(job["counts"]["accepted"], 50, "{job}");
        let id = job["id"].as_str().expect("an id");
        world.admin.ended(id).await;
        for (n, result) in (1..).zip(world.admin.results(id, "").await) {
            requests::assert_answers(&result, n);
        }
    }
    world.check().await;
}

/// Names in any script, quoted characters, the longest line there may be: all of it comes back as it was.
#[tokio::test]
async fn strange_ids_and_the_longest_line() {
    let world = world("strange").await;
    let ids = [
        "grüße-日本-🦀",
        r#"a "quoted" \ back"#,
        "tab\tand\nline",
        "'; drop table job; --",
        "\u{200b}",
        &"x".repeat(256),
    ];
    let chat = |id: &str, content: &str| {
        let body = json!({"model": "chat", "messages": [{"role": "user", "content": content}]});
        json!({"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body}).to_string()
    };
    let mut lines: Vec<String> = ids.iter().map(|id| chat(id, "nul \0 and \u{fffd}")).collect();
    let empty = chat("longest", "");
    lines.push(chat("longest", &"x".repeat((1 << 20) - empty.len())));
    assert_eq!(lines.last().map(String::len), Some(1 << 20));
    let id = world.admin.submit("", lines.join("\n")).await;
    let job = world.admin.ended(&id).await;
    assert_eq!(job["counts"]["succeeded"], json!(lines.len()), "{job}");
    let results = world.admin.results(&id, "").await;
    let shown: Vec<&str> = results.iter().filter_map(|result| result["custom_id"].as_str()).collect();
    assert_eq!(shown[..ids.len()], ids);
    world.check().await;
}

async fn gzip(text: &str) -> Vec<u8> {
    let mut zipped = Vec::new();
    GzipEncoder::new(text.as_bytes()).read_to_end(&mut zipped).await.expect("memory can be read");
    zipped
}

fn keyed(caller: &Client, key: &str, query: &str, body: impl Into<Body>) -> reqwest::RequestBuilder {
    caller.request(Method::POST, &format!("/api/v1/jobs{query}")).header("idempotency-key", key).body(body)
}

#[tokio::test]
async fn an_idempotency_key_is_one_job() {
    let world = world("idempotency").await;
    let other = world.key("other", json!({})).await;
    let lines = requests::chat(20);
    let submit = |query: &'static str, lines: String| send(keyed(&world.admin, "nightly", query, lines));
    let first = submit("", lines.clone()).await.expect(202);
    assert_eq!(first.header("idempotent-replayed"), None);
    let again = submit("", lines.clone()).await.expect(202);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.json()["id"], first.json()["id"]);
    // The same file in another shape is the same submission.
    let zipped = send(keyed(&world.admin, "nightly", "", gzip(&lines).await)).await.expect(202);
    assert_eq!(zipped.json()["id"], first.json()["id"]);
    for (query, lines) in [("", requests::chat(21)), ("?lane=standard", lines.clone())] {
        assert_problem(&submit(query, lines).await, 422, "idempotency_key_reused");
    }
    let others = send(keyed(&other, "nightly", "", lines)).await.expect(202);
    assert_ne!(others.json()["id"], first.json()["id"], "another team's key is another key");
    assert_eq!(world.db.number("select count(*) from job").await, 2);
    for (caller, job) in [(&world.admin, &first), (&other, &others)] {
        caller.ended(job.json()["id"].as_str().expect("an id")).await;
    }
    world.check().await;
}

#[tokio::test]
async fn a_hundred_of_the_same_at_once_are_one_job() {
    let world = wide_world("hundred").await;
    let all = (0..100).map(|_| send(keyed(&world.admin, "k", "", requests::chat(30))));
    let answers = join_all(all).await;
    let mut made = 0;
    for answer in &answers {
        match answer.status {
            202 => made += i32::from(answer.header("idempotent-replayed").is_none()),
            _ => assert_problem(answer, 409, "upload_under_way"),
        }
    }
    assert_eq!(made, 1, "one of them made the job");
    assert_eq!(world.db.number("select count(*) from job").await, 1);
    let last = send(keyed(&world.admin, "k", "", requests::chat(30))).await.expect(202);
    world.admin.ended(last.json()["id"].as_str().expect("an id")).await;
    world.check().await;
}

#[tokio::test]
async fn a_second_upload_waits_for_the_first_under_its_key() {
    let world = world("in_flight").await;
    let (mut body, rest) = mpsc::channel::<Result<String, std::convert::Infallible>>(1);
    let upload = tokio::spawn(try_send(keyed(&world.admin, "k", "", Body::wrap_stream(rest))));
    body.send(Ok(requests::chat(5))).await.expect("the gateway reads");
    let begun = "select count(*) from job where state = 'uploading'";
    until("the first upload", SOON, async || (world.db.number(begun).await == 1).then_some(())).await;
    let second = send(keyed(&world.admin, "k", "", requests::chat(6))).await;
    assert_problem(&second, 409, "upload_under_way");
    let list = world.admin.get("/api/v1/jobs").await.expect(200).json();
    assert_eq!(list["data"][0]["state"], "uploading", "{list}");
    body.send(Ok(requests::chat_line(6))).await.expect("the gateway reads");
    drop(body);
    let first = upload.await.expect("no panic").expect("an answer").expect(202).json();
    assert_eq!(first["counts"]["accepted"], 6, "{first}");
    assert_eq!(world.simulator.calls().await.min(6), world.simulator.calls().await, "a half job ran");
    world.admin.ended(first["id"].as_str().expect("an id")).await;
    world.check().await;
}

/// A client that sends again because no answer came in time, a hundred times over, at two replicas.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_submissions_at_once_under_one_key_are_one_job() {
    let world = wide_world("at_once").await;
    let other = world.replica("other", &world.setup).await;
    let callers = [world.admin.clone(), world.admin.at(&other.url)];
    let lines = requests::chat(500);
    let submissions = (0..100).map(|n| {
        let request = keyed(&callers[n % 2], "hasty", "", lines.clone());
        tokio::spawn(send(request))
    });
    let mut ids = std::collections::BTreeSet::new();
    for answer in join_all(submissions).await {
        let answer = answer.expect("no panic");
        // 409: the first is still under way.
        assert!(matches!(answer.status, 202 | 409), "{}", answer.text());
        if answer.status == 202 {
            ids.insert(answer.json()["id"].as_str().expect("an id").to_owned());
        }
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
    let id = ids.pop_first().unwrap_or_default();
    assert_problem(&send(keyed(&callers[1], "hasty", "", requests::chat(2))).await, 422, "idempotency_key_reused");
    assert_eq!(world.db.number("select count(*) from job").await, 1);
    assert_eq!(world.admin.ended(&id).await["counts"]["succeeded"], 500);
    world.check().await;
    assert_eq!(world.simulator.calls().await, 500);
}

#[tokio::test]
async fn an_upload_cut_midway_leaves_nothing_and_frees_its_key() {
    let world = world("cut").await;
    let lines = requests::chat(30_000);
    let address = world.gateway.url.trim_start_matches("http://").to_owned();
    let mut socket = tokio::net::TcpStream::connect(&address).await.expect("the gateway listens");
    let head = format!(
        "POST /api/v1/jobs HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\nidempotency-key: k\r\ncontent-length: {}\r\n\r\n",
        world.admin.key,
        lines.len()
    );
    socket.write_all(head.as_bytes()).await.expect("it reads");
    socket.write_all(&lines.as_bytes()[..lines.len() * 6 / 10]).await.expect("it reads");
    let items = "select count(*) from item";
    until("lines in the database", SOON, async || (world.db.number(items).await > 0).then_some(())).await;
    drop(socket);
    let left = async || (world.db.left_by_submissions().await == 0).then_some(());
    until("nothing to be left of it", SOON, left).await;
    assert_eq!(world.simulator.calls().await, 0, "a half job ran");

    let again = send(keyed(&world.admin, "k", "", requests::chat(10))).await.expect(202);
    assert_eq!(again.header("idempotent-replayed"), None);
    world.admin.ended(again.json()["id"].as_str().expect("an id")).await;
    world.check().await;
}

#[tokio::test]
async fn a_dry_run_says_what_it_would_be_and_does_nothing() {
    let world = world("dry_run").await;
    let lines = requests::chat(10) + &requests::embedding_line(11, "");
    let would = world.admin.post("/api/v1/jobs?dry_run=true", lines.clone()).await.expect(200).json();
    assert_eq!((&would["requests"], &would["lane"]), (&json!(11), &json!("bulk")), "{would}");
    assert_eq!(would["routes"].as_array().map(Vec::len), Some(2), "{would}");
    assert!(would["max_cost_usd"].as_str().is_some_and(|usd| usd.starts_with("0.")), "{would}");
    let bad = world.admin.post("/api/v1/jobs?dry_run=true", requests::chat_line(1) + "no line\n").await;
    assert_problem(&bad, 422, "bad_line");

    let file = world.dir.path().join("requests.jsonl");
    std::fs::write(&file, &lines).expect("the folder is ours");
    let path = file.to_str().expect("a plain path");
    world.gateway.run(&world.admin.key, &["submit", path, "--dry-run"]).await.expect(0);
    std::fs::write(&file, lines.replace("\"embed\"", "\"ember\"")).expect("the folder is ours");
    let ran = world.gateway.run(&world.admin.key, &["submit", path, "--dry-run"]).await.expect(6);
    assert!((ran.stdout + &ran.stderr).contains("ember"));
    assert_eq!(world.db.left_by_submissions().await, 0);
    assert_eq!(world.simulator.calls().await, 0);
}

#[tokio::test]
async fn the_command_line_submits_follows_and_fetches() {
    let world = world("cli").await;
    let mut lines = String::new();
    for n in 1..=200 {
        let _ = write!(lines, "{}", requests::chat_line(n));
    }
    let file = world.dir.path().join("requests.jsonl");
    std::fs::write(&file, lines).expect("the folder is ours");
    let path = file.to_str().expect("a plain path");
    let key = &world.admin.key;
    let ran = world.gateway.run(key, &["submit", path, "--watch", "--gzip", "--tag", "feature=cli"]).await.expect(0);
    let id = ran.stdout.split(':').next().expect("it begins with the id").to_owned();
    assert!(ran.stdout.contains("200 succeeded"), "{ran:?}");
    let results = world.gateway.run(key, &["jobs", "results", &id]).await.expect(0);
    for (n, result) in (1..).zip(requests::parse_lines(&results.stdout)) {
        requests::assert_answers(&result, n);
    }
    // A job with failures ends with an exit code of its own.
    let bad = requests::line("line-1", "/v1/chat/completions", requests::REFUSED_CHAT);
    std::fs::write(&file, bad).expect("the folder is ours");
    world.gateway.run(key, &["submit", path, "--watch"]).await.expect(3);
    world.check().await;
}

#[tokio::test]
async fn a_webhook_tells_of_the_end_signed_and_again_until_it_arrives() {
    let world = world("webhook").await;
    let caller = world.key("search", json!({})).await;
    let receiver = Receiver::start(&[500]).await;
    let id = caller.submit(&format!("?webhook={}", receiver.url), requests::chat(5)).await;
    caller.ended(&id).await;
    let got = until("two deliveries", Duration::from_secs(40), async || {
        let got = receiver.got();
        (got.len() >= 2).then_some(got)
    })
    .await;
    assert_eq!(got[0].headers.get("webhook-id"), got[1].headers.get("webhook-id"), "a repetition has the same id");
    let secret = secret(world.db.number("select team_id from team where name = 'search'").await);
    let hook = standardwebhooks::Webhook::new(&secret).expect("a secret");
    for Delivery { headers, body } in &got {
        hook.verify(body, headers).expect("the signature fits");
        assert!(hook.verify(&[body.as_slice(), b" "].concat(), headers).is_err(), "any body would do");
        let event: Value = serde_json::from_slice(body).expect("JSON");
        assert_eq!(event["type"], "job.completed", "{event}");
        assert_eq!((&event["data"]["id"], &event["data"]["counts"]["succeeded"]), (&json!(id), &json!(5)), "{event}");
    }
    let delivered = "select count(*) from webhook_outbox where delivered_at is not null and tries = 2";
    until("the outbox to know", SOON, async || (world.db.number(delivered).await == 1).then_some(())).await;
    world.check().await;
}

/// A team's webhook secret: what its operator hands out.
fn secret(team_id: i64) -> String {
    let pepper: Vec<u8> = PEPPER
        .trim()
        .as_bytes()
        .chunks(2)
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).expect("digits"), 16).expect("digits"))
        .collect();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&pepper).expect("any length will do");
    mac.update(format!("webhook:{team_id}").as_bytes());
    format!("whsec_{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[track_caller]
fn assert_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, &answer.json()["code"]), (status, &json!(code)), "{}", answer.text());
}
