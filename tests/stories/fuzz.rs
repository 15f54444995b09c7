//! Mutated job lines, call bodies and administrative bodies: whatever comes, the answer is a refusal in words or a success, never a
//! failure of the gateway's own. `FUZZ_SECONDS` says for how long (5 when left out), `FUZZ_SEED` from where.

use std::{
    env,
    time::{Duration, Instant, SystemTime},
};

use e2e::{
    Answer, Client, Setup, World, catalog,
    client::try_send,
    mutate::{Rng, mutated},
};
use reqwest::{Method, header::HeaderValue};
use serde_json::{Value, json};

/// Requests under way at once.
const SIDE_BY_SIDE: usize = 4;

fn variable(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

fn call_bodies() -> Vec<(&'static str, Value)> {
    let chat = "/v1/chat/completions";
    let tool =
        json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}});
    let image =
        json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}});
    vec![
        (chat, json!({"model": "chat", "messages": [{"role": "user", "content": "hello"}]})),
        (
            chat,
            json!({
                "model": "chat", "n": 2, "max_tokens": 5, "max_completion_tokens": 7, "temperature": 0.5, "stop": ["x"],
                "stream": true, "stream_options": {"include_usage": true}, "user": "u", "seed": 1, "logprobs": true,
                "messages": [
                    {"role": "system", "content": "s"},
                    {"role": "user", "content": [{"type": "text", "text": "what?"}, image]}
                ]
            }),
        ),
        (
            chat,
            json!({
                "model": "chat", "tools": [tool], "tool_choice": "auto", "response_format": {"type": "json_object"},
                "messages": [
                    {"role": "assistant", "content": null, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
                    {"role": "tool", "tool_call_id": "c", "content": "1"}
                ]
            }),
        ),
        ("/v1/embeddings", json!({"model": "embed", "input": "text"})),
        (
            "/v1/embeddings",
            json!({"model": "embed", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 8}),
        ),
        (
            "/v1/embeddings",
            json!({"model": "embed", "input": [[1, 2, 3], [4]], "encoding_format": "float", "user": "u"}),
        ),
        ("/v1/embeddings", json!({"model": "embed", "input": [1, 2, 3]})),
    ]
}

fn job_params() -> Value {
    json!({
        "name": "n", "lane": "bulk", "tags": {"customer": "c", "x": "y"}, "priority": 3, "deadline": "2999-01-01T00:00:00Z",
        "start_at": "2998-01-01T00:00:00Z", "max_attempts": 2, "max_cost": "1.50", "webhook": "https://example.com/hook",
        "after": {"job": "job_0000000000001", "on": "end"},
    })
}

fn admin_bodies() -> Vec<(Method, &'static str, Value)> {
    let filter = json!({"errors": ["e"], "statuses": [500], "deployments": ["d"], "unfinished": true});
    vec![
        (Method::POST, "/api/v1/teams", json!({"name": "new", "weight": 2})),
        (
            Method::POST,
            "/api/v1/keys",
            json!({
                "team": "ops", "name": "n", "role": "submit", "lanes": ["bulk"], "slots": 5, "rpm": 5, "tpm": 5,
                "expires_at": "2027-06-01T00:00:00Z"
            }),
        ),
        (
            Method::PUT,
            "/api/v1/lanes/fuzzed",
            json!({
                "class": "weighted", "weight": 2, "reserve_percent": 0, "max_percent": 50, "deadline_s": 60, "max_attempts": 3,
                "backoff_ms": 5, "backoff_max_ms": 50, "aging_s": 5, "closed": false
            }),
        ),
        (Method::PUT, "/api/v1/limits", json!({"scope": "team:fuzzed", "kind": "tpm", "cap": 1000})),
        (
            Method::PUT,
            "/api/v1/budgets/fuzzed",
            json!({
                "scope": {"team": "fuzzed", "tags": {"a": "b"}}, "limit_usd": "5", "window": "rolling 24h", "time_zone": "UTC",
                "policy": "reject", "thresholds": [50, 100], "guard": {"percent": 50, "per": "1h", "by": "job"}
            }),
        ),
        (Method::POST, "/api/v1/alerts/test", json!({"receiver": "r"})),
        (Method::PATCH, "/api/v1/jobs/job_0000000000001", json!({"priority": 1, "deadline": null, "max_cost": "2"})),
        (Method::POST, "/api/v1/jobs/job_0000000000001/retry", filter),
    ]
}

/// Of a request: its method, path with query, headers and body.
struct Sent {
    method: Method,
    path: String,
    headers: Vec<(String, HeaderValue)>,
    body: Vec<u8>,
}

fn line(rng: &mut Rng, n: usize) -> Value {
    let bodies = call_bodies();
    let (url, body) = rng.pick(&bodies);
    json!({"custom_id": format!("line-{n}"), "method": "POST", "url": url, "body": body})
}

/// Two sound lines, and a mutated one among them; in half of the cases behind what is said of the job.
fn job(rng: &mut Rng) -> (Vec<u8>, &'static str) {
    if rng.one_in(4) {
        let document = json!({"job": job_params(), "requests": [line(rng, 1), line(rng, 2)]});
        return (mutated(&document, rng), "application/json");
    }
    let mut body = Vec::new();
    if rng.one_in(2) {
        body.extend(mutated(&json!({"job": job_params()}), rng));
        body.push(b'\n');
    }
    let bad = rng.below(3);
    for n in 0..3 {
        let line = line(rng, n);
        body.extend(if n == bad { mutated(&line, rng) } else { line.to_string().into_bytes() });
        body.push(b'\n');
    }
    (body, "application/x-ndjson")
}

fn headers(rng: &mut Rng) -> Vec<(String, HeaderValue)> {
    const NAMES: [&str; 10] =
        ["name", "lane", "tags", "priority", "deadline", "start-at", "after", "max-attempts", "max-cost", "webhook"];
    const VALUES: [&[u8]; 16] = [
        b"",
        b"bulk",
        b"5",
        b"-1",
        b"99999999999999999999",
        b"1e400",
        b"NaN",
        b"a=b",
        b"a=%00",
        b"a=M\xc3\xbcller",
        b"a=\xfc",
        b"2999-01-01T00:00:00Z",
        b"+262143-01-01T00:00:00Z",
        b"https://[::1]/",
        b"job_0000000000001:end",
        b"customer=%FF,=,",
    ];
    let mut made = Vec::new();
    while rng.one_in(4) {
        let value: &[u8] = VALUES[rng.below(VALUES.len())];
        let value = HeaderValue::from_bytes(value).expect("no control characters");
        made.push((format!("x-tollway-{}", rng.pick(&NAMES)), value));
    }
    made
}

fn request(rng: &mut Rng) -> Sent {
    let headers = headers(rng);
    match rng.below(8) {
        0..3 => {
            let path = *rng.pick(&["/api/v1/jobs", "/api/v1/jobs?dry_run=true", "/api/v1/quotes"]);
            let (body, media) = job(rng);
            let media = ("content-type".to_owned(), HeaderValue::from_static(media));
            let headers = headers.into_iter().chain([media]).collect();
            Sent { method: Method::POST, path: path.to_owned(), headers, body }
        }
        3..6 => {
            let bodies = call_bodies();
            let (path, body) = rng.pick(&bodies);
            Sent { method: Method::POST, path: (*path).to_owned(), headers, body: mutated(body, rng) }
        }
        6 => {
            let bodies = admin_bodies();
            let (method, path, body) = rng.pick(&bodies);
            Sent { method: method.clone(), path: (*path).to_owned(), headers, body: mutated(body, rng) }
        }
        _ => schedule(rng),
    }
}

fn schedule(rng: &mut Rng) -> Sent {
    let cron = rng.pick(&[
        "0 0 1 1 *",
        "60 * * * *",
        "*/0 * * * *",
        "5-7%20*%20*",
        "",
        "%00",
        "0%200%2031%202%20*",
        "-1 * * * *",
    ]);
    let zone = rng.pick(&["UTC", "Europe/Berlin", "Mars/Base", "%00", ""]);
    let path = format!("/api/v1/schedules?name=s{}&cron={}&time_zone={zone}", rng.below(50), cron.replace(' ', "%20"));
    let body = mutated(&line(rng, 1), rng);
    Sent { method: Method::POST, path, headers: Vec::new(), body }
}

async fn send(client: &Client, sent: &Sent) -> reqwest::Result<Answer> {
    let mut request = client.request(sent.method.clone(), &sent.path).timeout(Duration::from_secs(60));
    for (name, value) in &sent.headers {
        request = request.header(name, value);
    }
    try_send(request.body(sent.body.clone())).await
}

/// One line of requests, each made from a seed of its own.
async fn sends(client: Client, first: u64, until: Instant) -> usize {
    let mut sent_so_far = 0;
    for seed in (first..).step_by(SIDE_BY_SIDE) {
        if Instant::now() >= until {
            break;
        }
        let sent = request(&mut Rng(seed));
        let case = || {
            let body: String = String::from_utf8_lossy(&sent.body).chars().take(2_000).collect();
            format!("FUZZ_SEED={seed}: {} {} {:?}\n{body}", sent.method, sent.path, sent.headers)
        };
        let answer = send(&client, &sent).await.unwrap_or_else(|error| panic!("no answer: {error:?}\n{}", case()));
        assert!(answer.status < 500, "{}: {}\n{}", answer.status, answer.text(), case());
        let text = answer.text();
        let is_told = answer.status < 400 || text.contains("\"detail\"") || text.contains("\"error\"");
        assert!(is_told, "{} without a word: {text}\n{}", answer.status, case());
        sent_so_far += 1;
    }
    sent_so_far
}

#[tokio::test]
async fn no_input_is_a_failure_of_the_gateways_own() {
    let mut world = World::start("fuzz", |simulator| Setup::new(catalog::usual(simulator, ""))).await;
    let seconds = variable("FUZZ_SECONDS").unwrap_or(5);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_micros() as u64;
    let seed = variable("FUZZ_SEED").unwrap_or(now);
    world.key("fuzzed", json!({})).await;
    let until = Instant::now() + Duration::from_secs(seconds);
    let lines = (0..SIDE_BY_SIDE as u64).map(|n| sends(world.admin.clone(), seed + n, until));
    let sent: usize = futures::future::join_all(lines).await.into_iter().sum();
    assert!(sent > 0);
    println!("{sent} requests from FUZZ_SEED={seed}");
    world.gateway.assert_runs();
    let log = world.gateway.log();
    let bad: Vec<&str> = log.lines().filter(|line| line.contains("panicked") || line.contains("ERROR")).collect();
    assert!(bad.is_empty(), "from FUZZ_SEED={seed}: {bad:#?}");
}
