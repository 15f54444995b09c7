//! The files below `examples/` do what they say: each runs as a reader would run it, against real processes.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use e2e::{
    Client, SOON, Setup, World,
    binary::{self, Ran},
    catalog,
    requests::{chat_body, parse_lines},
    until,
};
use serde_json::{Value, json};

/// What `tollway dev` declares, which the examples of callers are written for.
fn as_dev(simulator: &e2e::Simulator) -> String {
    catalog::PRICES.replace("sim-chat", "gpt-sim").replace("sim-embedding", "embed-sim")
        + &catalog::deployment(simulator, "gpt-sim", "gpt-sim", "")
        + &catalog::deployment(simulator, "embed-sim", "embed-sim", "")
        + &catalog::route("gpt-sim", &["gpt-sim"])
        + &catalog::route("embed-sim", &["embed-sim"])
}

async fn world(story: &str) -> World {
    World::start(story, |simulator| Setup { slots: 8, ..Setup::new(as_dev(simulator)) }).await
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_owned()
}

/// Fails the test when a file was added to a folder of examples and no story runs it.
fn assert_all_run(folder: &str, run: &[&str]) {
    let entries = std::fs::read_dir(repository().join("examples").join(folder)).expect("the folder is there");
    let found: BTreeSet<String> =
        entries.map(|entry| entry.expect("it can be read").file_name().to_string_lossy().into_owned()).collect();
    let run: BTreeSet<String> = run.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(found, run, "each file of examples/{folder} is run by a story");
}

/// Runs a file below `examples/` as the caller.
async fn run(interpreter: &str, file: &str, caller: &Client) -> Ran {
    let mut command = Command::new(interpreter);
    command.arg(repository().join("examples").join(file));
    command.env("TOLLWAY_URL", &caller.url).env("TOLLWAY_API_KEY", &caller.key);
    command.env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1").env("PYTHONDONTWRITEBYTECODE", "1");
    let ran = binary::run(command).await;
    assert_eq!(ran.code, Some(0), "examples/{file}: {ran:?}");
    ran
}

#[tokio::test]
async fn the_examples_with_curl() {
    assert_all_run("curl", &["chat.sh", "stream.sh", "embeddings.sh", "quote.sh", "job.sh"]);
    let world = world("examples_curl").await;
    let caller = world.key("search", json!({})).await;

    let chat = run("sh", "curl/chat.sh", &caller).await.stdout;
    for header in ["x-tollway-deployment: gpt-sim", "x-tollway-attempts: 1", "x-tollway-cost-usd: 0."] {
        assert!(chat.contains(header), "{chat}");
    }
    let id = chat.lines().find_map(|line| line.strip_prefix("x-tollway-request-id: ")).expect("the call's id");
    let row = caller.call(id.trim()).await.to_string();
    assert!(row.contains("support") && row.contains("acme"), "the tags are in the ledger: {row}");

    let stream = run("sh", "curl/stream.sh", &caller).await.stdout;
    assert!(stream.starts_with("data: {") && stream.trim_end().ends_with("data: [DONE]"), "{stream}");
    let vectors: Value = serde_json::from_str(&run("sh", "curl/embeddings.sh", &caller).await.stdout).expect("JSON");
    assert_eq!(vectors["data"].as_array().map(Vec::len), Some(2), "{vectors}");

    let quote: Value = serde_json::from_str(&run("sh", "curl/quote.sh", &caller).await.stdout).expect("JSON");
    assert_eq!((&quote["requests"], &quote["lane"]), (&json!(3), &json!("bulk")), "{quote}");
    assert_eq!(world.db.number("select count(*) from job").await, 0, "a quote stores nothing");

    let first = run("sh", "curl/job.sh", &caller).await;
    let results = parse_lines(&first.stdout);
    let ids: Vec<&str> = results.iter().filter_map(|result| result["custom_id"].as_str()).collect();
    assert_eq!(ids, ["doc-1", "doc-2", "doc-3"], "{first:?}");
    assert!(results.iter().all(|result| result["response"]["status_code"] == 200), "{first:?}");
    let again = run("sh", "curl/job.sh", &caller).await;
    if first.stderr == again.stderr {
        assert_eq!((world.db.number("select count(*) from job").await, &again.stdout), (1, &first.stdout));
    } else {
        // Midnight fell between the two runs, and the key has the date in it.
        assert_eq!(world.db.number("select count(*) from job").await, 2);
    }
    world.check().await;
}

#[tokio::test]
#[ignore = "installs OpenAI's SDK: scripts/test --full"]
async fn the_examples_with_openais_sdk() {
    let world = world("examples_sdk").await;
    let caller = world.key("search", json!({})).await;

    let mut sdk = Command::new("bash");
    sdk.arg(repository().join("scripts/lib/openai_sdk.sh"));
    let sdk = binary::run(sdk).await.expect(0).stdout;
    let sdk = sdk.trim_end();

    let chat = run(sdk, "python/chat.py", &caller).await.stdout;
    let lines: Vec<&str> = chat.lines().collect();
    assert_eq!(lines.len(), 3, "{chat}");
    assert!(lines[1].starts_with("deployment gpt-sim cost 0."), "{chat}");
    assert!(!lines[0].is_empty() && !lines[2].is_empty(), "both answers have text: {chat}");
    let embeddings = run(sdk, "python/embeddings.py", &caller).await.stdout;
    assert!(embeddings.contains("Parcels arrive") && embeddings.contains("64 dimensions"), "{embeddings}");
    world.check().await;
}

#[tokio::test]
async fn the_examples_in_python() {
    assert_all_run("python", &["chat.py", "embeddings.py", "job.py"]);
    let world = world("examples_python").await;
    let caller = world.key("search", json!({})).await;

    let first = run("python3", "python/job.py", &caller).await;
    assert!(first.stdout.starts_with("doc-0 64 dimensions\ndoc-1 64 dimensions\ncost 0."), "{first:?}");
    let again = run("python3", "python/job.py", &caller).await;
    assert_eq!(
        (&again.stdout, &again.stderr),
        (&first.stdout, &first.stderr),
        "a second run finds the first one's job"
    );
    assert_eq!(world.db.number("select count(*) from job").await, 1);
    world.check().await;
}

/// A configuration as the file has it, checked by the command that a reader would use.
async fn checked(file: &str) -> String {
    let path = repository().join("examples/config").join(file);
    let mut command = binary::command();
    command.args(["check-config", "--config"]).arg(&path).env("OPENAI_API_KEY", "sk-of-a-test");
    let ran = binary::run(command).await.expect(0);
    assert!(ran.stdout.contains("known"), "{ran:?}");
    std::fs::read_to_string(path).expect("the file can be read")
}

#[tokio::test]
async fn the_configuration_of_a_small_team() {
    assert_all_run("config", &["small-team.toml", "fallback.toml", "budgets.toml"]);
    let file = checked("small-team.toml").await;
    let world = World::start("examples_small_team", |simulator| {
        let openai = "https://api.openai.com/v1";
        let chat = file.replacen(openai, &simulator.base_url("openai-mini"), 1);
        let mut setup = Setup::new(chat.replacen(openai, &simulator.base_url("openai-embed"), 1));
        assert!(!setup.catalog.contains(openai), "no call leaves this machine");
        setup.variables = vec![("OPENAI_API_KEY", "sk-of-a-test".into())];
        setup
    })
    .await;
    for deployment in ["openai-mini", "openai-embed"] {
        world.simulator.set(deployment, json!({"require_key": "sk-of-a-test"})).await;
    }
    world.admin.chat(chat_body("chat", 1)).await.expect(200);
    world.admin.embeddings(r#"{"model":"embed","input":"a text"}"#).await.expect(200);
    let limits = world.admin.get("/api/v1/limits").await.expect(200).json();
    let limits = limits["data"].as_array().expect("a list");
    let has = |scope: &str, kind: &str, cap: u64| {
        limits.iter().any(|limit| limit["scope"] == scope && limit["kind"] == kind && limit["cap"] == cap)
    };
    assert!(has("lane:bulk:team:search", "slots", 8) && has("deployment:openai-mini", "rpm", 500), "{limits:?}");
    world.check().await;
}

#[tokio::test]
async fn the_configuration_with_fallback() {
    let file = checked("fallback.toml").await;
    let world = World::start("examples_fallback", |simulator| {
        Setup::new(file.replace("http://127.0.0.1:8788", &simulator.url))
    })
    .await;
    let first = world.admin.chat(chat_body("chat", 1)).await.expect(200);
    assert_eq!(first.header("x-tollway-deployment"), Some("first"));
    world.simulator.outage("first", 503, SOON, None).await;
    let second = world.admin.chat(chat_body("chat", 2)).await.expect(200);
    assert_eq!(second.header("x-tollway-deployment"), Some("second"));
    assert_eq!(second.header("x-tollway-attempts"), Some("2"));
    world.check().await;
}

#[tokio::test]
async fn the_configuration_with_lanes_and_budgets() {
    let file = checked("budgets.toml").await;
    let world =
        World::start("examples_budgets", |simulator| Setup::new(file.replace("http://127.0.0.1:8788", &simulator.url)))
            .await;
    let lanes = world.admin.get("/api/v1/lanes").await.expect(200).json();
    let lane = |name: &str| lanes["data"].as_array().expect("a list").iter().find(|lane| lane["name"] == name);
    assert_eq!(lane("prod").expect("prod")["reserve_percent"], 20, "{lanes}");
    assert_eq!(lane("bulk").expect("bulk")["max_percent"], 50, "{lanes}");

    let caller = world.key("search", json!({})).await;
    caller.budgeted_chat(&chat_body("chat", 1)).await.expect(200);
    let spent = async || {
        let budget = world.admin.get("/api/v1/budgets/search-month").await.expect(200).json();
        let has_spent = budget["spent"].as_str().is_some_and(|spent| !spent.trim_matches(['0', '.']).is_empty());
        has_spent.then_some(budget)
    };
    let budget = until("the call's cost in the budget", SOON, spent).await;
    assert_eq!((&budget["limit_usd"], &budget["guard"]["percent"]), (&json!("2000.00"), &json!(10)), "{budget}");
    let feature = world.admin.get("/api/v1/budgets/reindex-day").await.expect(200).json();
    assert_eq!(
        (&feature["spent"], &feature["policy"]),
        (&json!("0.00"), &json!("hold")),
        "it had another feature: {feature}"
    );
    world.check().await;
}
