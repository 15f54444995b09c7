//! Bad input gets a clear error with its place and reason, and leaves nothing behind.

use std::time::Duration;

use async_compression::tokio::bufread::GzipEncoder;
use e2e::{Answer, Client, SOON, Setup, World, catalog, client::send, requests, until};
use reqwest::{Body, Method};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

const MEGABYTE: usize = 1 << 20;

/// Small limits, a model without a price, and two deployments of different models under one name.
async fn world(story: &str) -> World {
    World::start(story, |simulator| {
        let mut toml = catalog::usual(simulator, "");
        toml += &catalog::deployment(simulator, "dear", "nobody-knows-what-it-costs", "");
        toml += &catalog::route("dear", &["dear"]);
        toml += &catalog::route("mixed", &["vectors", "first"]);
        Setup { server: "max_body_mb = 1\nmax_upload_gb = 1\nmax_lines = 1000", ..Setup::new(toml) }
    })
    .await
}

/// Refused with this status and code, in words that contain `text`.
#[track_caller]
fn check(answer: Answer, status: u16, code: &str, text: &str) -> Value {
    let problem = answer.expect(status).json();
    assert_eq!(problem["code"], code, "{problem}");
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(detail.to_lowercase().contains(&text.to_lowercase()), "{text:?} is not in {problem}");
    problem
}

async fn assert_nothing_left(world: &World) {
    // An upload that failed is not runnable from that moment on; its rows go a moment later.
    assert_eq!(world.db.number("select count(*) from job where state <> 'uploading'").await, 0);
    let left = async || (world.db.left_by_submissions().await == 0).then_some(());
    until("nothing to be left behind", SOON, left).await;
    assert_eq!(world.simulator.calls().await, 0, "something was called");
    assert_eq!(world.db.number("select count(*) from ledger").await, 0);
}

#[tokio::test]
async fn a_bad_line_is_named_with_its_number_and_reason() {
    let world = world("bad_line").await;
    let chat = "/v1/chat/completions";
    let line = |url: &str, body: &str| requests::line("bad", url, body);
    let body = requests::chat_body("chat", 2);
    let long = requests::line("bad", chat, &format!(r#"{{"model":"chat","messages":["{}"]}}"#, "x".repeat(MEGABYTE)));
    let cases = [
        (
            line(chat, &requests::chat_body("nope", 2)),
            r#"there is no model "nope"; there are chat, dear, embed, mixed"#,
        ),
        (line(chat, &requests::chat_body("dear", 2)), r#"model "dear" has no price"#),
        (line("/v1/embeddings", r#"{"model":"mixed","input":"x"}"#), r#"model "mixed" cannot serve embeddings"#),
        ("{\"custom_id\":\n".to_owned(), "not a request line"),
        ("[]\n".to_owned(), "the file is one JSON array; write one object a line"),
        (r#"["a","POST","/v1/embeddings",{"model":"embed","input":"x"}]"#.to_owned(), "the line is an array"),
        (long, "bytes; at most 1048576 are taken, as [server] max_body_mb says"),
        (requests::chat_line(1), r#"custom_id "line-1" was used by an earlier line"#),
        (line("/v1/completions", &body), r#"url is "/v1/completions""#),
        (line(chat, &body).replace("POST", "GET"), r#"method is "GET"; only "POST" is taken"#),
        (line(chat, &body).replace("\"bad\"", "\"\""), "custom_id is empty"),
        (line(chat, r#"{"model":"chat"}"#), "missing field `messages`"),
        (line(chat, r#"{"model":"chat","messages":[]}"#), "messages is empty"),
        (line(chat, &body.replace('{', "{\"n\":1e3,")), "n is 1e3; it must be a whole number from 1 to 128"),
        (line("/v1/embeddings", r#"{"model":"embed"}"#), "missing field `input`"),
        (line("/v1/embeddings", r#"{"model":"embed","input":""}"#), "input is empty"),
        (line(chat, r#"{"messages":[{}]}"#), "missing field `model`"),
        (line(chat, &body.replace('{', "{\"stream\":true,")), "cannot be streamed"),
        (line(chat, &body).replace("\"body\"", "\"boby\""), "unknown field \"boby\""),
    ];
    for (bad, reason) in cases {
        let problem =
            check(world.admin.post("/api/v1/jobs", requests::chat_line(1) + &bad).await, 422, "bad_line", reason);
        assert_eq!(problem["line"], 2, "{problem}");
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.len() < 600 && detail.starts_with("line 2: "), "{problem}");
    }
    let many: String = requests::chat(1_001);
    let problem = check(world.admin.post("/api/v1/jobs", many).await, 422, "bad_line", "at most 1000 requests");
    assert_eq!(problem["line"], 1_001);
    assert_nothing_left(&world).await;
}

#[tokio::test]
async fn a_bad_job_is_refused() {
    let world = world("bad_job").await;
    let standard = world.key("search", json!({"lanes": ["standard"]})).await;
    let lines = || requests::chat(2);
    let jobs = |query: &str| format!("/api/v1/jobs{query}");
    for (query, status, code, text) in [
        ("?lane=fast", 422, "invalid", r#"there is no lane "fast"; there are bulk, prod, standard"#),
        ("?lane=FAST!", 400, "bad_request", "is not a lane's name"),
        ("?lain=bulk", 400, "bad_request", "unknown field `lain`"),
        ("?tags=feature", 400, "bad_request", "key=value"),
        ("?tags=team=ops", 400, "bad_request", "comes from the key"),
        ("?priority=1000", 422, "invalid", "not between -100 and 100"),
        ("?priority=high", 400, "bad_request", "priority"),
        ("?max_attempts=0", 422, "invalid", "max_attempts"),
        ("?deadline=2001-01-01T00:00:00Z", 422, "invalid", "has passed"),
        ("?webhook=ftp://example.com/x", 422, "invalid", "https://"),
    ] {
        check(world.admin.post(&jobs(query), lines()).await, status, code, text);
    }
    check(
        standard.post(&jobs("?lane=prod"), lines()).await,
        403,
        "forbidden",
        r#"this key may not use "prod"; it may use standard"#,
    );
    let first = r#"{"job":{"lain":"bulk"}}"#;
    check(world.admin.post(&jobs(""), format!("{first}\n{}", lines())).await, 422, "bad_line", "unknown field `lain`");
    check(world.admin.post(&jobs(""), "").await, 422, "invalid", "the upload has no requests");
    check(world.admin.post(&jobs(""), "\n \n").await, 422, "invalid", "the upload has no requests");

    let typed =
        |name: &'static str, value: &'static str| world.admin.request(Method::POST, "/api/v1/jobs").header(name, value);
    let form = typed("content-type", "multipart/form-data; boundary=x").body("--x--");
    check(send(form).await, 415, "unsupported_media", "--data-binary");
    check(send(typed("content-encoding", "br").body(lines())).await, 415, "unsupported_media", "gzip");
    check(send(typed("content-type", "application/json").body("{")).await, 400, "bad_request", "not a job");
    check(send(typed("idempotency-key", "").body(lines())).await, 422, "invalid", "1 to 255 bytes");
    check(world.admin.post(&jobs(""), b"\x1f\x8b no gzip".to_vec()).await, 400, "bad_request", "gzip");
    assert_nothing_left(&world).await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_in_bounded_memory() {
    let world = world("too_large").await;
    let request = world.admin.request(Method::POST, "/api/v1/jobs").header("content-type", "application/json");
    let large = json!({"job": {}, "requests": ["x".repeat(2 * MEGABYTE)]}).to_string();
    check(send(request.body(large)).await, 413, "too_large", "1048576 bytes");
    let spoken = world.admin.chat(format!(r#"{{"model":"chat","messages":["{}"]}}"#, "x".repeat(2 * MEGABYTE))).await;
    assert_eq!(spoken.expect(413).json()["error"]["code"], "too_large");

    let bomb = bomb().await;
    assert!(bomb.len() < 4 * MEGABYTE, "it is small before it is unpacked");
    check(world.admin.post("/api/v1/jobs", bomb).await, 413, "too_large", "5000000 blank lines");
    let peak = world.gateway.peak_memory();
    assert!(peak < 300 << 20, "its memory grew to {peak} bytes");
    assert_nothing_left(&world).await;
}

/// A bit more than a gigabyte of blank lines: one packed megabyte of them, over and over.
async fn bomb() -> Vec<u8> {
    let blank = vec![b'\n'; MEGABYTE];
    let mut member = Vec::new();
    GzipEncoder::new(blank.as_slice()).read_to_end(&mut member).await.expect("memory can be read");
    member.repeat(1_025)
}

#[tokio::test]
async fn keys_routes_and_ids_that_do_not_exist() {
    let world = world("bad_keys").await;
    let reader = world.key("search", json!({"role": "read"})).await;
    let url = &world.gateway.url;
    let wrong = |key: &str| Client::new(url, key);
    let mut forged = world.admin.key.clone();
    forged.replace_range(16..20, "AAAA");
    for key in ["", "tw_", "sk-1234567890", forged.as_str()] {
        check(wrong(key).get("/api/v1/jobs").await, 401, "unauthorized", "");
        assert_eq!(wrong(key).get("/v1/models").await.expect(401).json()["error"]["code"], "invalid_api_key");
    }
    check(reader.post("/api/v1/jobs", requests::chat(1)).await, 403, "forbidden", r#"a key with role "read" may not"#);
    check(world.admin.get("/api/v2/jobs").await, 404, "not_found", "openapi.json");
    check(world.admin.delete("/api/v1/lanes").await, 405, "method_not_allowed", "DELETE");
    for id in ["job_0000000000000", "job_x", "1", "job_zzzzzzzzzzzzz", "%27%20or%201=1"] {
        check(world.admin.get(&format!("/api/v1/jobs/{id}")).await, 404, "not_found", "there is no");
    }
    check(world.admin.get("/api/v1/jobs?state=done").await, 400, "bad_request", "queued, running");
    check(world.admin.get("/api/v1/jobs?cursor=!").await, 400, "bad_request", "cursor");
    check(world.admin.post("/api/v1/teams", r#"{"name":"Not A Name"}"#).await, 422, "invalid", "a-z");
    check(
        world.admin.post("/api/v1/keys", r#"{"team":"nobody","name":"x","role":"read"}"#).await,
        422,
        "invalid",
        "team",
    );
    assert_nothing_left(&world).await;
}

#[tokio::test]
async fn bad_synchronous_calls() {
    let world = world("bad_calls").await;
    let standard = world.key("search", json!({"lanes": ["standard"]})).await;
    let chat = requests::chat_body("chat", 1);
    let in_lane = |lane: &str| {
        send(standard.request(Method::POST, "/v1/chat/completions").header("x-tollway-lane", lane).body(chat.clone()))
    };
    for (answer, status, code, text) in [
        (world.admin.chat(requests::chat_body("nope", 1)).await, 404, "model_not_found", "there is no model \"nope\""),
        (world.admin.chat(requests::chat_body("dear", 1)).await, 422, "invalid", "has no price"),
        (world.admin.chat("{").await, 400, "bad_request", "the text ends too early"),
        (world.admin.chat(r#"{"model":"chat"}"#).await, 400, "bad_request", "missing field `messages`"),
        (world.admin.chat(vec![0xff, 0xfe]).await, 400, "bad_request", "UTF-8"),
        (world.admin.embeddings(r#"{"model":"embed"}"#).await, 400, "bad_request", "missing field `input`"),
        (
            world.admin.chat(r#"{"model":"chat","messages":[{}],"max_tokens":9223372036854775807}"#).await,
            400,
            "bad_request",
            "max_tokens is 9223372036854775807; it must be a whole number from 1 to 2147483647",
        ),
        (in_lane("prod").await, 403, "forbidden", "may not use the lane prod"),
        (in_lane("a lane").await, 400, "bad_request", "lane"),
    ] {
        let error = answer.expect(status).json()["error"].clone();
        assert_eq!(error["code"], code, "{error}");
        assert!(
            error["message"].as_str().is_some_and(|said| said.to_lowercase().contains(&text.to_lowercase())),
            "{error}"
        );
    }
    assert_nothing_left(&world).await;
}

/// Whatever a provider sends, it ends as a typed failure; nothing of it is stored as a success.
#[tokio::test]
async fn a_provider_that_answers_garbage() {
    let world = World::start("garbage", |simulator| Setup::new(catalog::one(simulator, ""))).await;
    for (fault, code) in [("garbage_rate", "garbage"), ("wrong_type_rate", "garbage"), ("cut_rate", "cut")] {
        world.simulator.set("only", json!({"garbage_rate": 0, "wrong_type_rate": 0, "cut_rate": 0})).await;
        world.simulator.set("only", json!({fault: 1.0})).await;
        let id = world.admin.submit("?max_attempts=1", requests::chat(2)).await;
        let job = world.admin.ended(&id).await;
        assert_eq!(job["counts"]["failed"], 2, "{fault}: {job}");
        for result in world.admin.results(&id, "").await {
            assert_eq!(result["error"]["code"], code, "{fault}: {result}");
        }
        let error = world.admin.chat(requests::chat_body("chat", 1)).await.expect(502).json()["error"].clone();
        assert_eq!((&error["code"], &error["type"]), (&json!("provider_error"), &json!("server_error")), "{error}");
        assert!(!error["message"].to_string().contains("out of tape"), "the provider's words are shown: {error}");
    }
    world.check().await;
}

#[tokio::test]
async fn a_configuration_with_a_wrong_key_is_not_started() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("tollway.toml");
    for (toml, line, advice) in [
        ("[worker]\nslotz = 3\n", 2, "unknown key worker.slotz; did you mean worker.slots?"),
        ("[sever]\n", 1, "unknown key sever; did you mean server?"),
        (
            "\n[deployments.a]\nkind = 'openai'\nbase_url = 'http://x'\nmodle = 'm'\n",
            5,
            "did you mean deployments.a.model?",
        ),
        ("[worker]\nlease_s = 1\n", 2, "must be at least 5"),
        (
            "[deployments.a]\nkind = 'openai'\nbase_url = 'http://x'\nmodel = 'm'\ncredential = 'sk-canary'\n",
            5,
            "env:NAME",
        ),
    ] {
        std::fs::write(&file, toml).expect("the folder is ours");
        for command in ["check-config", "serve"] {
            let mut program = e2e::binary::command();
            program.arg("--config").arg(&file).arg(command);
            let ran = e2e::binary::run(program);
            let ran = tokio::time::timeout(Duration::from_secs(10), ran).await.expect("it ends").expect(6);
            assert!(ran.stderr.contains(advice), "{command}: {advice:?} is not in {}", ran.stderr);
            assert!(ran.stderr.contains(&format!("tollway.toml:{line}:")), "{command}: {}", ran.stderr);
            assert!(!ran.stderr.contains("canary"), "{command}: a secret is repeated: {}", ran.stderr);
        }
    }
}

/// An endless body that never completes a line ends as an error too.
#[tokio::test]
async fn a_line_without_an_end_is_refused_as_it_comes_in() {
    let world = world("endless").await;
    let endless = futures::stream::repeat_with(|| Ok::<_, std::convert::Infallible>(vec![b'x'; 64 << 10]));
    let endless = futures::StreamExt::take(endless, 64);
    let answer = world.admin.post("/api/v1/jobs", Body::wrap_stream(endless)).await;
    check(answer, 422, "bad_line", "at most 1048576 are taken");
    assert_nothing_left(&world).await;
}
