//! Windows of budgets: what ends with them, what does not, and what a caller is told of it.

use e2e::{Postgres, SOON, Setup, World, catalog, oracle::pico, requests, until};
use serde_json::{Value, json};

async fn budget(world: &World, name: &str) -> Value {
    world.admin.get(&format!("/api/v1/budgets/{name}")).await.expect(200).json()
}

/// The body of a request with a long answer.
fn a_call() -> String {
    requests::parse_lines(&requests::long_chat("chat", 1))[0]["body"].to_string()
}

/// As it stands when nothing is under way.
async fn settled(world: &World, name: &str) -> Value {
    until("what was held to be settled", SOON, async || {
        let shown = budget(world, name).await;
        (pico(&shown["reserved"]) == 0 && pico(&shown["spent"]) > 0).then_some(shown)
    })
    .await
}

#[tokio::test]
async fn a_held_job_goes_on_in_the_next_hour_and_each_hour_keeps_its_own_spend() {
    let setup = |simulator: &_| Setup::new(catalog::one(simulator, ""));
    let world = World::start_on(Postgres::before_the_hour(45), "reset", setup).await;
    world.simulator.answers_long("only", 5..=60).await;
    // Two thirds of the job.
    let hourly = json!({"limit_usd": "0.05", "window": "hour", "policy": "hold"});
    world.admin.put("/api/v1/budgets/hourly", &hourly).await.expect(200);
    let job = world.admin.submit("", requests::long_chat("chat", 90)).await;
    let said = |job: &Value| job["waiting_reason"].as_str().unwrap_or_default().to_owned();
    let is_held = |job: &Value| said(job).contains("it resets at ") && job["in_flight"] == 0;
    let held = world.admin.job_when(&job, "to wait for the next hour", is_held).await;
    let old = settled(&world, "hourly").await;
    assert!(said(&held).contains(&format!("it resets at {}", old["resets_at"].as_str().expect("a time"))), "{held}");
    assert!(held["counts"]["pending"].as_i64() > Some(0), "{held}");
    world.admin.budgeted_chat(&a_call()).await.expect(402);

    let ended = world.admin.ended(&job).await;
    assert_eq!(ended["counts"]["succeeded"], 90, "{ended}");
    let new = settled(&world, "hourly").await;
    assert_eq!(new["window_start"], old["resets_at"], "{new}");
    assert_eq!(pico(&old["spent"]) + pico(&new["spent"]), pico(&ended["cost_usd"]), "{old} {new}");
    let of_old = "select sum(contracted_cost)::text from ledger
                  where reserved_at < (select date_trunc('hour', max(reserved_at)) from ledger)";
    assert_eq!(world.db.text(of_old).await.parse(), Ok(pico(&old["spent"])), "{old}");
    world.admin.budgeted_chat(&a_call()).await.expect(200);
    let verified =
        world.gateway.run(&world.admin.key, &["--output", "json", "budgets", "verify"]).await.expect(0).json();
    assert_eq!(verified[0]["verified"]["equal"], true, "{verified}");
    world.check().await;
}

#[tokio::test]
async fn who_has_no_tokens_left_is_told_of_what_and_until_when() {
    let daily = "[budgets.daily]\nlimit_tokens = 5000\nwindow = 'day'\ntime_zone = 'Asia/Kolkata'\npolicy = 'reject'\n";
    let setup = |simulator: &_| Setup::new(catalog::one(simulator, "") + daily);
    let world = World::start("tokens", setup).await;
    world.simulator.answers_long("only", 5..=20).await;
    let mut answered = 0;
    while world.admin.budgeted_chat(&a_call()).await.status == 200 {
        answered += 1;
        assert!(answered < 10, "ten answers of five hundred tokens, and what was asked, are more than five thousand");
    }
    // What is left then is less than one more may cost: a thousand and some.
    assert!(answered >= 7, "only {answered} were answered");
    let shown = settled(&world, "daily").await;
    let refused = world.admin.budgeted_chat(&a_call()).await.expect(402);
    assert!(refused.header("retry-after").is_some_and(|wait| wait.parse::<u32>().is_ok()), "{refused:?}");
    let error = refused.json()["error"].clone();
    for (field, expected) in [
        ("type", &json!("insufficient_quota")),
        ("code", &json!("budget_exceeded")),
        ("budget", &json!("daily")),
        ("unit", &json!("tokens")),
        ("limit", &json!("5000")),
        ("left", &shown["left"]),
        ("resets_at", &shown["resets_at"]),
    ] {
        assert_eq!(&error[field], expected, "{field}: {error}");
    }
    let message = error["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("budget daily: ") && message.contains(" of 5000 tokens is left"), "{error}");
    assert!(error["resets_at"].as_str().is_some_and(|at| at.ends_with("T18:30:00Z")), "midnight in India: {error}");
    let counted = world.db.number("select sum(prompt_total + output_text)::bigint from ledger").await;
    assert_eq!(shown["spent"], counted.to_string(), "{shown}");
    world.check().await;
}
