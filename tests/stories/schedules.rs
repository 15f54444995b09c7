//! Jobs that come again and again, once for each tick however many gateways there are.

use e2e::{SOON, Setup, World, catalog, receiver::Receiver, requests, until};
use serde_json::{Value, json};

async fn world(story: &str) -> World {
    World::start(story, |simulator| Setup { slots: 8, ..Setup::new(catalog::usual(simulator, "")) }).await
}

async fn create(world: &World, query: &str, lines: String) -> Value {
    world.admin.post(&format!("/api/v1/schedules?{query}"), lines).await.expect(201).json()
}

async fn jobs(world: &World) -> i64 {
    world.db.number("select count(*) from job where state <> 'uploading'").await
}

#[tokio::test]
async fn each_tick_makes_one_job_however_many_gateways_there_are() {
    let world = world("schedules").await;
    let _second = world.replica("second", &world.setup).await;
    let schedule =
        create(&world, "name=nightly&cron=*/2%20*%20*%20*%20*%20*&tags=feature=search", requests::chat(3)).await;
    assert_eq!((&schedule["requests"], &schedule["time_zone"]), (&json!(3), &json!("UTC")), "{schedule}");
    until("three jobs", SOON, async || (jobs(&world).await >= 3).then_some(())).await;
    let id = schedule["id"].as_str().expect("an id").to_owned();
    let listed = world.gateway.run(&world.admin.key, &["schedules", "list"]).await.expect(0).stdout;
    assert!(listed.contains(&id) && listed.contains("nightly"), "{listed}");
    world.gateway.run(&world.admin.key, &["schedules", "delete", &id]).await.expect(0);
    // None is under way any more once the chore's lock is free.
    until("ticks that are over", SOON, async || {
        let made = jobs(&world).await;
        let ended = world.db.number("select count(*) from job where state = 'completed'").await;
        (made == ended).then_some(())
    })
    .await;
    let twice = "select count(*) - count(distinct date_trunc('second', created_at)) from job";
    assert_eq!(world.db.number(twice).await, 0, "a tick made two jobs");
    let all = world.admin.get("/api/v1/jobs").await.expect(200).json();
    let job = &all["data"][0];
    assert_eq!((&job["name"], &job["tags"]["feature"]), (&json!("nightly"), &json!("search")), "{job}");
    assert_eq!(job["counts"]["succeeded"], 3, "{job}");
    world.admin.delete(&format!("/api/v1/schedules/{id}")).await.expect(404);
    world.check().await;
}

#[tokio::test]
async fn a_tick_is_passed_over_while_the_last_job_runs() {
    let world = world("schedules_skip").await;
    world.simulator.set_latency("first", 600_000).await;
    let query = "name=slow&cron=*%20*%20*%20*%20*%20*&skip_if_running=true";
    let id = create(&world, query, requests::chat(1)).await["id"].as_str().expect("an id").to_owned();
    until("the first job", SOON, async || (jobs(&world).await == 1).then_some(())).await;
    let ticked = async || {
        let text = "select coalesce((extract(epoch from last_tick_at) * 1000)::bigint, 0) from schedule";
        world.db.number(text).await
    };
    // The tick is noted after the job is there.
    let first = until("the first tick", SOON, async || Some(ticked().await).filter(|at| *at > 0)).await;
    until("ticks that are passed over", SOON, async || (ticked().await >= first + 3_000).then_some(())).await;
    assert_eq!(jobs(&world).await, 1);
    world.simulator.set_latency("first", 0).await;
    let all = world.admin.get("/api/v1/jobs").await.expect(200).json();
    let job = all["data"][0]["id"].as_str().expect("an id");
    world.admin.post(&format!("/api/v1/jobs/{job}/cancel"), "").await.expect(200);
    until("the next job", SOON, async || (jobs(&world).await > 1).then_some(())).await;
    world.admin.delete(&format!("/api/v1/schedules/{id}")).await.expect(204);
}

/// What a submission can say of its job, the command line can say of a schedule's.
#[tokio::test]
async fn the_command_line_says_all_that_the_api_takes() {
    let world = world("schedules_cli").await;
    let receiver = Receiver::start(&[]).await;
    let file = world.dir.path().join("daily.jsonl");
    std::fs::write(&file, requests::chat(2)).expect("the folder is ours");
    let create = ["--output", "json", "schedules", "create", file.to_str().expect("a plain path"), "--name", "often"];
    let more = ["--cron", "* * * * * *", "--max-attempts", "2", "--webhook", &receiver.url];
    let made = world.gateway.run(&world.admin.key, &[create.as_slice(), &more].concat()).await.expect(0).json();
    until("a webhook of a tick's job", SOON, async || (!receiver.got().is_empty()).then_some(())).await;
    world.admin.delete(&format!("/api/v1/schedules/{}", made["id"].as_str().expect("an id"))).await.expect(204);
    assert_eq!(world.db.number("select min(max_attempts)::bigint from job").await, 2);
}

#[tokio::test]
async fn a_schedule_that_cannot_be_is_refused_with_the_reason() {
    let world = world("schedules_bad").await;
    let line = requests::chat(1);
    for (query, param) in [
        ("name=a&cron=61%20*%20*%20*%20*", "cron"),
        ("name=a&cron=0%200%2030%202%20*", "cron"),
        ("name=a&cron=0%200%200%201%201%20*%202020", "cron"),
        ("name=a&cron=*%20*%20*%20*%20*&time_zone=Mars/Olympus", "time_zone"),
        ("name=&cron=*%20*%20*%20*%20*", "name"),
    ] {
        let path = format!("/api/v1/schedules?{query}");
        let refused = world.admin.post(&path, line.clone()).await.expect(422).json();
        assert_eq!(refused["param"], param, "{query}: {refused}");
    }
    let path = "/api/v1/schedules?name=a&cron=0%200%201%201%20*";
    let bad = world.admin.post(path, "{}").await.expect(422).json();
    assert_eq!((&bad["code"], &bad["line"]), (&json!("bad_line"), &json!(1)), "{bad}");
    let dated = format!("{{\"job\":{{\"deadline\":\"2099-01-01T00:00:00Z\"}}}}\n{line}");
    assert_eq!(world.admin.post(path, dated).await.expect(422).json()["param"], "deadline");
    assert_eq!(world.db.number("select count(*) from schedule").await, 0);
    world.admin.post(path, line.clone()).await.expect(201);
    assert_eq!(world.admin.post(path, line.clone()).await.expect(409).json()["param"], "name");
    let other = world.key("other", json!({})).await;
    let theirs = other.get("/api/v1/schedules").await.expect(200).json();
    assert_eq!(theirs["data"], json!([]), "another team's schedule is seen");
}
