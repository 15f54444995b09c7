//! Budgets: not a cent more than declared, whoever calls, through however many replicas, and whatever dies.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use e2e::{Client, Gateway, SOON, Setup, World, catalog, oracle::DOLLAR, requests, until};
use futures::future::join_all;
use serde_json::{Value, json};

/// A call that costs less than a tenth of a cent, and may cost nearly twice that.
fn call(n: usize) -> String {
    let text = "word ".repeat(200);
    format!(r#"{{"model":"chat","max_tokens":1000,"messages":[{{"role":"user","content":"{n} {text}"}}]}}"#)
}

/// What the provider charges for all calls that it saw, by the prices of [`catalog::PRICES`].
async fn charged(world: &World) -> i128 {
    world.simulator.charged("only", 500_000, 1_500_000).await
}

async fn budget(client: &Client, name: &str) -> Value {
    client.get(&format!("/api/v1/budgets/{name}")).await.expect(200).json()
}

fn pico(budget: &Value, field: &str) -> i128 {
    e2e::oracle::pico(&budget[field])
}

/// Callers that go on until they were told again and again that nothing is left; what the last refusals said.
async fn spend_all(clients: &[Client], callers: usize, done: &AtomicBool) -> Vec<Value> {
    let caller = async |n: usize| {
        let (mut refused, mut last) = (0, Value::Null);
        while refused < 4 && !done.load(Ordering::Relaxed) {
            let client = &clients[n % clients.len()];
            let request = client.request(reqwest::Method::POST, "/v1/chat/completions").body(call(n));
            match e2e::client::try_send(request).await {
                Ok(answer) if answer.status == 402 => {
                    refused += 1;
                    last = answer.json();
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Ok(answer) if answer.status == 200 => refused = 0,
                // A replica that is being killed, or has just begun.
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        last
    };
    join_all((0..callers).map(caller)).await
}

async fn world(story: &str, lease_s: u64) -> World {
    let budget = "[budgets.dollar]\nlimit_usd = '1.00'\nwindow = 'total'\n";
    let setup = move |simulator: &_| Setup { lease_s, ..Setup::new(catalog::one(simulator, "") + budget) };
    let world = World::start(story, setup).await;
    world.simulator.answers_long("only", 5..=60).await;
    world
}

#[tokio::test]
async fn a_dollar_is_spent_and_not_a_cent_more() {
    let world = world("dollar", 30).await;
    let replicas = [world.replica("second", &world.setup).await, world.replica("third", &world.setup).await];
    let clients = [world.admin.clone(), world.admin.at(&replicas[0].url), world.admin.at(&replicas[1].url)];
    let refusals = spend_all(&clients, 90, &AtomicBool::new(false)).await;
    let spent = charged(&world).await;
    assert!(spent <= DOLLAR, "{spent} pico-dollars were charged");
    assert!(spent >= DOLLAR * 99 / 100, "only {spent} pico-dollars were charged");
    for refusal in refusals {
        let error = &refusal["error"];
        let (code, kind) = (&error["code"], &error["type"]);
        assert_eq!((code, kind), (&json!("budget_exceeded"), &json!("insufficient_quota")), "{refusal}");
        assert_eq!((&error["budget"], &error["limit"]), (&json!("dollar"), &json!("1.00")), "{refusal}");
    }
    world.check().await;
    let shown = budget(&world.admin, "dollar").await;
    assert_eq!(pico(&shown, "spent"), spent, "{shown}");
    assert_eq!((pico(&shown, "reserved"), pico(&shown, "unproven")), (0, 0), "{shown}");
    assert_eq!(pico(&shown, "left"), DOLLAR - spent, "{shown}");
    let verified =
        world.gateway.run(&world.admin.key, &["--output", "json", "budgets", "verify"]).await.expect(0).json();
    assert_eq!(verified[0]["verified"]["equal"], true, "{verified}");
}

/// Every second a replica dies, with whatever it was granted.
#[tokio::test]
async fn a_dollar_is_not_exceeded_when_replicas_die() {
    let mut world = world("dying_dollar", 5).await;
    let setup = world.setup.clone();
    let mut others = [world.replica("second", &setup).await, world.replica("third", &setup).await];
    let clients = [world.admin.clone(), world.admin.at(&others[0].url), world.admin.at(&others[1].url)];
    let done = Arc::new(AtomicBool::new(false));
    let calling = tokio::spawn({
        let done = Arc::clone(&done);
        async move { spend_all(&clients, 60, &done).await.len() }
    });
    let (began, mut kills) = (Instant::now(), 0);
    while !calling.is_finished() && began.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let dying: &mut Gateway = if kills % 3 == 0 { &mut world.gateway } else { &mut others[kills % 3 - 1] };
        dying.kill9();
        dying.restart().await;
        kills += 1;
    }
    done.store(true, Ordering::Relaxed);
    calling.await.expect("no panic");
    assert!(kills >= 3, "it was over after {kills} kills");
    let spent = charged(&world).await;
    assert!(spent <= DOLLAR, "{spent} pico-dollars were charged");
    e2e::oracle::idle::wait(&world.db).await;
    // The provider may know of calls that the ledger does not have: sent a moment before their replica died. They are unproven.
    e2e::oracle::budgets::check(&world.db).await;
    let shown = budget(&world.admin, "dollar").await;
    let accounted = pico(&shown, "spent") + pico(&shown, "unproven");
    assert!((DOLLAR * 99 / 100..=DOLLAR).contains(&accounted), "{kills} kills, {spent} charged: {shown}");
    assert!(spent <= accounted, "{spent} charged: {shown}");
}

/// One team's job waits at its budget, another's goes on; raised, the first goes on too.
#[tokio::test]
async fn a_job_waits_for_its_budget_and_delays_nobody() {
    let world = World::start("held_job", |simulator| Setup::new(catalog::one(simulator, ""))).await;
    world.simulator.answers_long("only", 5..=60).await;
    let (held, free) = (world.key("search", json!({})).await, world.key("support", json!({})).await);
    let declared = |usd: &str| json!({"scope": {"team": "search"}, "limit_usd": usd, "window": "month", "time_zone": "Europe/Berlin", "policy": "hold"});
    world.admin.put("/api/v1/budgets/search-month", &declared("0.02")).await.expect(200);
    let waiting = held.submit("", requests::long_chat("chat", 200)).await;
    let said = |job: &Value| job["waiting_reason"].as_str().unwrap_or_default().to_owned();
    let stuck = held.job_when(&waiting, "to wait for its budget", |job| said(job).contains("it resets at ")).await;
    assert!(said(&stuck).contains("budget search-month: $"), "{stuck}");
    assert_eq!(stuck["waits"]["reason"], "budget", "{stuck}");
    free.ended(&free.submit("", requests::chat(50)).await).await;
    let settled = async || {
        let shown = budget(&world.admin, "search-month").await;
        (pico(&shown, "reserved") == 0 && pico(&shown, "left") < DOLLAR / 500).then_some(shown)
    };
    let shown = until("the last of the budget to be spent", SOON, settled).await;
    assert!(pico(&shown, "spent") <= DOLLAR / 50, "{shown}");
    // What the ledger has already stays counted.
    world.admin.put("/api/v1/budgets/search-month", &declared("5")).await.expect(200);
    let job = held.ended(&waiting).await;
    assert_eq!(job["counts"]["succeeded"], 200, "{job}");
    let shown = budget(&world.admin, "search-month").await;
    assert_eq!(shown["spent"], job["cost_usd"], "{shown}");
    // Another one over the same time begins where the ledger stands, and a removed one holds nobody.
    let all = json!({"limit_usd": "0.01", "window": "day"});
    let began = world.admin.put("/api/v1/budgets/all", &all).await.expect(200).json();
    assert!(pico(&began, "spent") > pico(&shown, "spent") && began["left"] == "0.00", "{began}");
    free.budgeted_chat(&call(1)).await.expect(402);
    // A new job is told so before its lines are taken.
    let refused = free.post("/api/v1/jobs", requests::chat(3)).await.expect(402).json();
    assert_eq!((&refused["code"], &refused["budget"]), (&json!("budget_exceeded"), &json!("all")), "{refused}");
    world.admin.delete("/api/v1/budgets/all").await.expect(204);
    free.budgeted_chat(&call(1)).await.expect(200);
    world.check().await;
}

/// Two replicas under load hear of a budget, and of a lower one: from the answer on, no call begins that does not fit.
#[tokio::test]
async fn a_budget_that_comes_under_load_is_not_overshot_from_its_answer_on() {
    let world = World::start("under_load", |simulator| Setup::new(catalog::one(simulator, ""))).await;
    world.simulator.answers_long("only", 5..=60).await;
    let second = world.replica("second", &world.setup).await;
    let clients = [world.admin.clone(), world.admin.at(&second.url)];
    let done = Arc::new(AtomicBool::new(false));
    let calling = tokio::spawn({
        let (done, clients) = (Arc::clone(&done), clients.clone());
        async move {
            let caller = async |n: usize| {
                while !done.load(Ordering::Relaxed) {
                    let request = clients[n % 2].request(reqwest::Method::POST, "/v1/chat/completions").body(call(n));
                    let refused = e2e::client::try_send(request).await.is_ok_and(|answer| answer.status == 402);
                    tokio::time::sleep(Duration::from_millis(if refused { 100 } else { 0 })).await;
                }
            };
            join_all((0..24).map(caller)).await;
        }
    });
    let spent_some = async || (charged(&world).await > DOLLAR / 50).then_some(());
    until("the callers to be at it", SOON, spent_some).await;
    for usd in ["0.10", "0.05"] {
        let declared = json!({"limit_usd": usd, "window": "total"});
        let answer = world.admin.put("/api/v1/budgets/late", &declared).await.expect(200).json();
        assert_eq!(answer["in_force"]["everywhere"], true, "{answer}");
        assert_eq!(answer["in_force"]["replicas"].as_array().map(Vec::len), Some(2), "{answer}");
        let allowed = pico(&answer, "limit_usd").max(pico(&answer, "spent") + pico(&answer, "reserved"));
        tokio::time::sleep(Duration::from_secs(2)).await;
        let shown = budget(&world.admin, "late").await;
        assert!(pico(&shown, "spent") <= allowed, "{allowed} at its answer: {answer}, and then {shown}");
    }
    done.store(true, Ordering::Relaxed);
    calling.await.expect("no panic");
    e2e::oracle::idle::wait(&world.db).await;
    let at_rest = async || {
        let shown = budget(&world.admin, "late").await;
        (pico(&shown, "reserved") == 0 && pico(&shown, "unproven") == 0).then_some(())
    };
    until("nothing to be left reserved or unproven", Duration::from_secs(70), at_rest).await;
    // It was set below what had been spent; the check looks for budgets that were overrun.
    let raised = json!({"limit_usd": "10", "window": "total"});
    world.admin.put("/api/v1/budgets/late", &raised).await.expect(200);
    world.check().await;
}

/// A soft spot for the cheaper deployment of the same route.
#[tokio::test]
async fn what_does_not_fit_is_served_by_a_cheaper_deployment() {
    let setup = |simulator: &_| {
        let cheap = "[[prices]]\nprovider = 'sim'\nmodel = 'sim-cheap'\ninput = '0.005'\noutput = '0.015'\n";
        let dear = catalog::deployment(simulator, "dear", "sim-chat", "");
        let budget = "[budgets.small]\nlimit_usd = '0.003'\nwindow = 'day'\npolicy = 'downgrade'\n";
        let cheap = cheap.to_owned() + &catalog::deployment(simulator, "cheap", "sim-cheap", "");
        Setup::new(catalog::PRICES.to_owned() + &dear + &cheap + &catalog::route("chat", &["dear", "cheap"]) + budget)
    };
    let world = World::start("downgrade", setup).await;
    for deployment in ["dear", "cheap"] {
        world.simulator.set(deployment, json!({"answer_tokens": 500})).await;
    }
    let mut served = Vec::new();
    for n in 0..8 {
        let answer = world.admin.budgeted_chat(&call(n)).await.expect(200);
        served.push(answer.header("x-tollway-deployment").expect("it is named").to_owned());
        let settled = async || (pico(&budget(&world.admin, "small").await, "reserved") == 0).then_some(());
        until("what was held to be settled", SOON, settled).await;
    }
    // Two fit. One whose grant came late was served by the cheaper one too.
    let dear = served.iter().filter(|name| *name == "dear").count();
    assert!((1..=2).contains(&dear) && served.last().is_some_and(|name| name == "cheap"), "{served:?}");
    let refused = world.admin.put("/api/v1/budgets/small", &json!({"limit_usd": "9", "window": "day"})).await;
    assert_eq!(refused.expect(409).json()["code"], "managed_by_file");
    world.check().await;
}
