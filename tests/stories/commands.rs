//! What an operator does from the command line: every command against a real gateway, as a person and as a script sees it.

use e2e::{Setup, World, catalog, oracle::when_free, requests};
use serde_json::{Value, json};

async fn world(story: &str) -> World {
    World::start(story, |simulator| Setup { slots: 8, ..Setup::new(catalog::usual(simulator, "")) }).await
}

/// The JSON that a command prints.
async fn ask(world: &World, args: &[&str]) -> Value {
    let args = [&["--output", "json"], args].concat();
    world.gateway.run(&world.admin.key, &args).await.expect(0).json()
}

#[tokio::test]
async fn teams_and_keys_are_made_listed_and_taken_back() {
    let world = world("teams_keys").await;
    let key = &world.admin.key;
    assert_eq!(ask(&world, &["teams", "create", "search", "--weight", "3"]).await["weight"], 3);
    let again = world.gateway.run(key, &["teams", "create", "search"]).await.expect(6);
    assert!(again.stderr.contains("exists already"), "{again:?}");
    let made = ask(&world, &["keys", "create", "--team", "search", "--name", "nightly", "--rpm", "600"]).await;
    assert_eq!(
        (&made["role"], &made["lanes"], &made["rpm"]),
        (&json!("submit"), &json!(["standard", "bulk"]), &json!(600))
    );
    let theirs = made["key"].as_str().expect("it is shown once");
    world.gateway.run(theirs, &["jobs", "list"]).await.expect(0);
    let refused = world.gateway.run(theirs, &["keys", "list"]).await.expect(5);
    assert!(refused.stderr.contains("may not"), "{refused:?}");

    let teams = ask(&world, &["teams", "list"]).await;
    let names: Vec<&Value> = teams.as_array().expect("a list").iter().map(|team| &team["name"]).collect();
    assert_eq!(names, ["ops", "search"]);
    let keys = ask(&world, &["keys", "list", "--team", "search"]).await;
    assert_eq!((keys.as_array().map(Vec::len), &keys[0]["id"]), (Some(1), &made["id"]), "{keys}");
    let shown = world.gateway.run(key, &["keys", "list"]).await.expect(0);
    assert!(shown.stdout.contains("nightly") && !shown.stdout.contains(&theirs[16..]), "{}", shown.stdout);

    let id = made["id"].as_str().expect("an id");
    assert!(ask(&world, &["keys", "revoke", id]).await["revoked_at"].is_string());
    let refused = world.gateway.run(theirs, &["jobs", "list"]).await.expect(5);
    assert!(refused.stderr.contains("TOLLWAY_API_KEY"), "{refused:?}");
    assert!(ask(&world, &["teams", "disable", "search"]).await["disabled_at"].is_string());
    world.gateway.run(key, &["teams", "disable", "nobody"]).await.expect(4);
    world.gateway.run(key, &["keys", "revoke", "nobodys"]).await.expect(4);
}

#[tokio::test]
async fn jobs_are_looked_after() {
    let world = world("jobs_commands").await;
    let key = &world.admin.key;
    world.simulator.set_latency("first", 50).await;
    let id = world.admin.submit("?name=reindex&tags=feature=search", requests::chat(3_000)).await;
    world.simulator.has_seen(8).await;
    assert_eq!(ask(&world, &["jobs", "pause", &id]).await["state"], "paused");
    let lanes = ask(&world, &["lanes"]).await;
    let bulk = lanes.as_array().expect("a list").iter().find(|lane| lane["name"] == "bulk").expect("bulk");
    assert!(bulk["waiting"].as_i64() > Some(0), "{bulk}");
    let shown = world.gateway.run(key, &["lanes"]).await.expect(0);
    assert!(["prod", "standard", "bulk", "paused"].iter().all(|word| shown.stdout.contains(word)), "{}", shown.stdout);
    assert_eq!(ask(&world, &["jobs", "resume", &id]).await["state"], "running");
    let list = world.gateway.run(key, &["jobs", "list", "--state", "running"]).await.expect(0);
    assert!(list.stdout.contains(&id) && list.stdout.contains("reindex"), "{}", list.stdout);
    ask(&world, &["jobs", "cancel", &id]).await;
    let watched = world.gateway.run(key, &["jobs", "watch", &id]).await.expect(3);
    assert!((watched.stdout + &watched.stderr).contains("cancelled"));
    let shown = ask(&world, &["jobs", "show", &id]).await;
    assert_eq!((&shown["state"], &shown["tags"]), (&json!("cancelled"), &json!({"feature": "search"})), "{shown}");
    let late = world.gateway.run(key, &["jobs", "resume", &id]).await.expect(6);
    assert!(late.stderr.contains("cancelled"), "{late:?}");
    world.gateway.run(key, &["jobs", "show", "job_0000000000000"]).await.expect(4);

    let file = world.dir.path().join("results.jsonl");
    let path = file.to_str().expect("a plain path");
    world.gateway.run(key, &["jobs", "results", &id, "--failed", "--out", path]).await.expect(0);
    let failed = requests::parse_lines(&std::fs::read_to_string(&file).expect("it was written"));
    assert_eq!(shown["counts"]["cancelled"], json!(failed.len()));
    world.gateway.run(key, &["jobs", "delete", &id, "--yes"]).await.expect(0);
    let gone = world.gateway.run(key, &["jobs", "results", &id]).await.expect(4);
    assert!(gone.stderr.contains("purged"), "{gone:?}");
    world.check().await;
}

#[tokio::test]
async fn what_works_beside_a_gateway() {
    let world = world("beside").await;
    let id = world.admin.submit("", requests::chat(20)).await;
    world.admin.ended(&id).await;
    let key = &world.admin.key;
    let probed = world.gateway.run(key, &["check-config", "--probe"]).await.expect(0);
    assert!(
        ["database", "first", "second", "vectors"].iter().all(|what| probed.stdout.contains(what)),
        "{}",
        probed.stdout
    );
    assert!(probed.stdout.contains("beside the API's lanes and limits: fits"), "{}", probed.stdout);
    world.admin.post("/api/v1/teams", json!({"name": "search"}).to_string()).await.expect(201);
    let limit = json!({"scope": "team:search", "kind": "slots", "cap": 5});
    world.admin.put("/api/v1/limits", &limit).await.expect(200);
    let whole = "\n[teams.search]\nweight = 2\n[teams.search.lanes.bulk]\nslots = 6\n";
    world.gateway.edit(|file| file + whole);
    let probed = world.gateway.run(key, &["check-config", "--probe"]).await.expect(7);
    let reason = "slots 6 of lane:bulk:team:search contradicts slots 5 of team:search";
    assert!(probed.stdout.contains(reason), "{}", probed.stdout);
    let weight = world.db.number("select weight::bigint from team where name = 'search'").await;
    assert_eq!(weight, 1, "what was only tried has changed something");
    world.gateway.edit(|file| file.replace(whole, ""));
    world.gateway.run(key, &["migrate"]).await.expect(0);
    world.check().await;
    let proved = when_free(&world.gateway, &["lake", "verify"]).await.expect(0);
    assert!(proved.stdout.contains("equal: 20 rows"), "{}", proved.stdout);
    when_free(&world.gateway, &["lake", "compact"]).await.expect(0);

    // A lake that lost a file is found out, and made whole again from the ledger.
    let files = world.dir.path().join("lake/hot");
    std::fs::remove_dir_all(&files).expect("the lake is a folder");
    let found = when_free(&world.gateway, &["lake", "verify"]).await.expect(1);
    assert!(found.stdout.contains("NOT equal"), "{}", found.stdout);
    when_free(&world.gateway, &["lake", "export", "--again"]).await.expect(0);
    world.check().await;

    // Nobody is there to ask.
    let mut nowhere = world.gateway.command(key, &["jobs", "list"]);
    nowhere.env("TOLLWAY_URL", "http://127.0.0.1:1");
    let ran = e2e::binary::run(nowhere).await.expect(7);
    assert!(ran.stderr.contains("no gateway answers") && ran.stderr.contains("tollway dev"), "{ran:?}");
}
