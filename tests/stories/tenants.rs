//! Teams do not see each other: whatever the route, another team's thing does not exist.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use e2e::{Client, Setup, World, catalog, client::send, requests, until};
use reqwest::Method;
use serde_json::{Value, json};

/// Every operation that the gateway's own document names, but for health.
async fn operations(admin: &Client) -> Vec<(Method, String)> {
    let document = admin.get("/api/openapi.json").await.expect(200).json();
    let mut all = Vec::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            // What is said of all operations of a path stands among them.
            if method != "parameters" && operation["security"] != json!([]) {
                all.push((method.to_uppercase().parse().expect("a method"), path.clone()));
            }
        }
    }
    assert!(all.len() > 20, "{all:?}");
    all
}

const OPERATORS: [&str; 6] = [
    "/v1/models/{id}",
    "/api/v1/lanes/{id}",
    "/api/v1/budgets/{id}",
    "/api/v1/alerts/{id}",
    "/api/v1/ledger/{id}",
    "/api/v1/deployments/{id}",
];

/// The other team's things, by the route that names them.
struct Theirs {
    job: String,
    call: String,
    key_id: String,
    schedule: String,
}

impl Theirs {
    /// The path with their thing in it, and with one that nobody has; `None`: it names nothing that belongs to a team.
    fn paths(&self, path: &str) -> Option<(String, String)> {
        let (theirs, nobodys) = match path {
            _ if path.starts_with("/api/v1/jobs/{id}") => (self.job.as_str(), "job_0000000000001"),
            _ if path.starts_with("/api/v1/calls/{id}") => (self.call.as_str(), "req_0000000000001_0"),
            _ if path.starts_with("/api/v1/teams/{id}") => ("theirs", "nobodys"),
            _ if path.starts_with("/api/v1/keys/{id}") => (self.key_id.as_str(), "000000000000"),
            _ if path.starts_with("/api/v1/schedules/{id}") => (self.schedule.as_str(), "sch_0000000000001"),
            // The operator's, and the same for all who may see them.
            _ if OPERATORS.iter().any(|start| path.starts_with(start)) => return None,
            _ if path.contains('{') => panic!("say here whose things {path} names"),
            _ => return None,
        };
        Some((path.replace("{id}", theirs), path.replace("{id}", nobodys)))
    }
}

#[tokio::test]
async fn another_teams_things_do_not_exist() {
    let world = World::start("tenants", |simulator| Setup::new(catalog::one(simulator, ""))).await;
    let them = world.key("theirs", json!({})).await;
    let job = them.submit("?name=their-secret-job", requests::chat(5)).await;
    them.ended(&job).await;
    let spoken = them.chat(requests::chat_body("chat", 1)).await.expect(200);
    let call = spoken.header("x-tollway-request-id").expect("it is named").to_owned();
    them.call(&call).await;
    let query = "name=their-secret-schedule&cron=0%200%203%20*%20*%20*";
    let schedule = them.post(&format!("/api/v1/schedules?{query}"), requests::chat(1)).await.expect(201).json();
    let schedule = schedule["id"].as_str().expect("an id").to_owned();
    let theirs = Theirs { job, call, key_id: them.key[3..15].to_owned(), schedule };
    let before = them.job(&theirs.job).await;

    let callers = [world.key("ours", json!({})).await, world.key("ours", json!({"role": "read"})).await];
    let mut hidden = BTreeSet::new();
    for (method, path) in operations(&world.admin).await {
        for caller in &callers {
            let Some((foreign, absent)) = theirs.paths(&path) else {
                if method == Method::GET && path != "/api/openapi.json" {
                    let list = caller.get(&path).await.text();
                    let leak = [&theirs.job, &theirs.call, &theirs.key_id, &theirs.schedule, "theirs", "their-secret"];
                    assert!(!leak.iter().any(|word| list.contains(*word)), "{path} shows theirs: {list}");
                }
                continue;
            };
            let foreign = send(caller.request(method.clone(), &foreign)).await;
            let absent = send(caller.request(method.clone(), &absent)).await;
            assert!(
                matches!(foreign.status, 403 | 404),
                "{method} {path} answers {}: {}",
                foreign.status,
                foreign.text()
            );
            assert_eq!(foreign.status, absent.status, "{method} {path} tells what exists");
            assert_eq!(foreign.json()["code"], absent.json()["code"], "{method} {path} tells what exists");
            if foreign.status == 404 {
                hidden.insert(format!("{method} {path}"));
            }
        }
    }
    assert!(hidden.len() >= 8, "only these were hidden rather than forbidden: {hidden:?}");
    assert_eq!(them.job(&theirs.job).await, before, "their job was touched");
    assert_eq!(them.results(&theirs.job, "").await.len(), 5);
    world.check().await;
}

#[tokio::test]
async fn no_route_is_open_without_a_key() {
    let world = World::start("no_key", |simulator| Setup::new(catalog::one(simulator, ""))).await;
    let nobody = e2e::client::http();
    for (method, path) in operations(&world.admin).await {
        let url = format!("{}{}", world.gateway.url, path.replace("{id}", "job_0000000000001"));
        send(nobody.request(method, url)).await.expect(401);
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        send(nobody.get(format!("{}{path}", world.gateway.url))).await.expect(200);
    }
}

#[tokio::test]
async fn a_revoked_key_and_a_disabled_team_are_refused_everywhere_within_a_second() {
    let world = World::start("revoke", |simulator| Setup::new(catalog::one(simulator, ""))).await;
    let replica = world.replica("replica", &world.setup).await;
    let (revoked, disabled) = (world.key("search", json!({})).await, world.key("chatbot", json!({})).await);
    for (caller, path, status) in [
        (&revoked, format!("/api/v1/keys/{}", &revoked.key[3..15]), 401),
        (&disabled, "/api/v1/teams/chatbot".to_owned(), 403),
    ] {
        let there = caller.at(&replica.url);
        caller.get("/v1/models").await.expect(200);
        there.get("/v1/models").await.expect(200);
        world.admin.delete(&path).await.expect(200);
        let done = Instant::now();
        caller.get("/v1/models").await.expect(status);
        let refused = async || (there.get("/v1/models").await.status == status).then_some(());
        until("the other replica to refuse it", Duration::from_secs(5), refused).await;
        assert!(done.elapsed() < Duration::from_secs(3), "it took {:?}", done.elapsed());
    }
}

/// Neither prompts nor keys are in the log, the metrics, the ledger or an error.
#[tokio::test]
async fn what_is_secret_stays_secret() {
    let world = World::start("secrets", |simulator| Setup::new(catalog::one(simulator, ""))).await;
    let body = r#"{"model":"chat","messages":[{"role":"user","content":"canary-prompt"}]}"#;
    let id = world.admin.submit("?max_attempts=1", requests::line("a", "/v1/chat/completions", body)).await;
    world.admin.ended(&id).await;
    world.admin.chat(body).await.expect(200);
    world.simulator.set("only", json!({"error_rate": 1.0})).await;
    let error = world.admin.chat(body).await.expect(502).text();
    let id = world.admin.submit("?max_attempts=1", requests::line("a", "/v1/chat/completions", body)).await;
    world.admin.ended(&id).await;
    world.check().await;
    let ledger = world.db.text("select string_agg(to_jsonb(l)::text, '') from ledger l").await;
    let keys = world.db.text("select string_agg(to_jsonb(k)::text, '') from api_key k").await;
    let metrics = world.admin.get("/metrics").await.expect(200).text();
    let secret = &world.admin.key[16..];
    for (place, text) in
        [("log", &world.gateway.log()), ("metrics", &metrics), ("ledger", &ledger), ("error", &error), ("keys", &keys)]
    {
        assert!(!text.contains("canary-prompt"), "a prompt is in the {place}");
        assert!(!text.contains(secret), "a key is in the {place}");
    }
    let shown: Value = world.admin.get("/api/v1/keys").await.expect(200).json();
    assert!(!shown.to_string().contains(secret), "a key is shown again");
}
