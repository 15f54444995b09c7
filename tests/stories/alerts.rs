//! Alerts: each is told once, to everybody who wants to hear of it, whatever happens to the others.

use std::time::{Duration, Instant};

use e2e::{
    SOON, Setup, World, catalog,
    receiver::{Delivery, Receiver},
    requests, until,
};
use serde_json::{Value, json};

const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// How long a receiver that says nothing is waited for.
const RECEIVER_HANG: Duration = Duration::from_secs(10);
/// Refuses connections.
const NOBODY: &str = "http://127.0.0.1:9/";

/// A gateway that tells Slack, a webhook, and somebody who does not answer.
async fn world(story: &str, slack: &Receiver, hook: &Receiver, broken: &str) -> World {
    let receivers = "
[alerts.broken]
kind = 'slack'
url = 'env:BROKEN_URL'
[alerts.pager]
kind = 'webhook'
url = 'env:HOOK_URL'
secret = 'env:HOOK_SECRET'
[alerts.slack]
kind = 'slack'
url = 'env:SLACK_URL'
on = ['budget']
";
    let variables = vec![
        ("BROKEN_URL", broken.to_owned()),
        ("HOOK_URL", hook.url.clone()),
        ("HOOK_SECRET", SECRET.to_owned()),
        ("SLACK_URL", slack.url.clone()),
    ];
    World::start(story, |simulator| Setup { variables, ..Setup::new(catalog::one(simulator, "") + receivers) }).await
}

fn bodies(got: &[Delivery]) -> Vec<Value> {
    got.iter().map(Delivery::json).collect()
}

async fn heard(slack: &Receiver, expected: &[&str]) {
    until("Slack to be told", SOON, async || (slack.got().len() >= expected.len()).then_some(())).await;
    assert_eq!(slack.titles(), expected);
}

async fn alerts(world: &World) -> Vec<Value> {
    let page = world.admin.get("/api/v1/alerts").await.expect(200).json();
    page["data"].as_array().expect("a list").clone()
}

#[tokio::test]
async fn thresholds_are_told_once_by_two_replicas_and_a_failing_receiver_delays_nobody() {
    // The webhook fails at first.
    let (slack, hook) = (Receiver::start(&[]).await, Receiver::start(&[500]).await);
    // Takes connections, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let broken = format!("http://{}/", silent.local_addr().expect("it listens"));
    let world = world("thresholds", &slack, &hook, &broken).await;
    let _second = world.replica("second", &world.setup).await;
    world.simulator.set("only", json!({"answer_tokens": 500})).await;
    let budget = |tokens: i64| json!({"limit_tokens": tokens, "window": "total", "soft": true});
    world.admin.put("/api/v1/budgets/told", &budget(1_000_000)).await.expect(200);
    let spend = async || {
        let id = world.admin.submit("", requests::chat(20)).await;
        world.admin.ended(&id).await;
        until("what was held to be settled", SOON, async || {
            let shown = world.admin.get("/api/v1/budgets/told").await.expect(200).json();
            let spent = shown["spent"].as_str().and_then(|tokens| tokens.parse::<i64>().ok())?;
            (shown["reserved"] == "0" && spent > 0).then_some(spent)
        })
        .await
    };
    let spent = spend().await;
    // The same spend is 55 % of a smaller budget, then 85 %, then more than all.
    world.admin.put("/api/v1/budgets/told", &budget(spent * 100 / 55)).await.expect(200);
    heard(&slack, &["Budget told reached 50 %"]).await;
    world.admin.put("/api/v1/budgets/told", &budget(spent * 100 / 85)).await.expect(200);
    heard(&slack, &["Budget told reached 50 %", "Budget told reached 80 %"]).await;
    let began = Instant::now();
    let call = r#"{"model":"chat","messages":[{"role":"user","content":"hello"}]}"#;
    world.admin.post("/v1/chat/completions", call).await.expect(200);
    assert!(began.elapsed() < RECEIVER_HANG, "a call waited for a receiver");
    spend().await;
    let all = ["Budget told reached 50 %", "Budget told reached 80 %", "Budget told reached 100 %"];
    heard(&slack, &all).await;

    // The webhook got all of it, the first one again, and can tell that it is the same.
    let got = until("the webhook to be told of all", SOON, async || {
        let got = hook.got();
        let thresholds = bodies(&got).iter().map(|body| body["data"]["threshold"].clone()).collect::<Vec<_>>();
        (got.len() >= 4 && [50, 80, 100].iter().all(|percent| thresholds.contains(&json!(percent)))).then_some(got)
    })
    .await;
    assert_eq!(got.len(), 4, "{:?}", bodies(&got));
    let key = standardwebhooks::Webhook::new(SECRET).expect("a secret");
    for Delivery { headers, body } in &got {
        key.verify(body, headers).expect("the signature fits");
    }
    let first = got[0].headers.get("webhook-id");
    assert_eq!(got.iter().filter(|delivery| delivery.headers.get("webhook-id") == first).count(), 2);
    assert_eq!(bodies(&got)[0]["type"], "alert.budget");

    // Nothing is told a second time, by no replica.
    let told_again = "select count(*) from alert where kind = 'budget' and not is_silent";
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!((world.db.number(told_again).await, slack.titles().len(), hook.got().len()), (3, 3, 4));

    // And it is seen who did not hear, and why.
    let is_told = |alert: &Value, at: usize| alert["deliveries"][at]["state"] == "delivered";
    let alerts = until("the silent one to be given time", SOON, async || {
        let alerts = alerts(&world).await;
        alerts.iter().all(|alert| alert["deliveries"][0]["last_error"].is_string()).then_some(alerts)
    })
    .await;
    assert_eq!(alerts.len(), 3, "{alerts:?}");
    for alert in &alerts {
        assert!(is_told(alert, 1) && is_told(alert, 2), "{alert}");
        assert_eq!(alert["deliveries"][0]["state"], "waiting", "{alert}");
    }
    world.check().await;
}

#[tokio::test]
async fn what_was_reached_while_nobody_looked_is_told_once_with_the_highest_threshold() {
    let (slack, hook) = (Receiver::start(&[]).await, Receiver::start(&[]).await);
    let mut world = world("unwatched", &slack, &hook, NOBODY).await;
    let id = world.admin.submit("", requests::chat(20)).await;
    world.admin.ended(&id).await;
    let spent =
        world.db.number("select sum(coalesce(prompt_total, 0) + coalesce(output_text, 0))::bigint from ledger").await;
    let budget = json!({"limit_tokens": spent * 100 / 90, "window": "total"});
    world.admin.put("/api/v1/budgets/told", &budget).await.expect(200);
    // Whatever the gateway is at when it dies, the alert is neither lost nor told twice.
    until("the alert", SOON, async || {
        (world.db.number("select count(*) from alert where kind = 'budget'").await == 2).then_some(())
    })
    .await;
    world.gateway.kill9();
    world.gateway.restart().await;
    // A delivery that was under way when it died comes again when its lease is over; its receiver knows it by its id.
    let arrived = "select count(*) from alert_delivery where receiver <> 'broken' and delivered_at is null";
    until("the deliveries", Duration::from_secs(90), async || (world.db.number(arrived).await == 0).then_some(()))
        .await;
    let mut told = slack.titles();
    told.dedup();
    assert_eq!(told, ["Budget told reached 80 %"]);
    assert_eq!(alerts(&world).await.len(), 1);
    let listed = world.gateway.run(&world.admin.key, &["alerts"]).await.expect(0);
    assert!(listed.stdout.contains("Budget told reached 80 %"), "{}", listed.stdout);
}

#[tokio::test]
async fn failed_requests_and_a_test_are_told_to_who_wants_to_hear() {
    let (slack, hook) = (Receiver::start(&[]).await, Receiver::start(&[]).await);
    let world = world("told_failures", &slack, &hook, NOBODY).await;
    let bad = requests::line("line-1", "/v1/chat/completions", requests::REFUSED_CHAT);
    let id = world.admin.submit("", bad).await;
    world.admin.ended(&id).await;
    // They are looked for twice a minute.
    let event = until("the webhook to be told", Duration::from_secs(75), async || {
        bodies(&hook.got()).into_iter().find(|body| body["type"] == "alert.dead_letters")
    })
    .await;
    assert_eq!((&event["data"]["object"], &event["data"]["team"]), (&json!(id), &json!("ops")), "{event}");
    assert!(slack.got().is_empty(), "Slack hears of budgets alone: {:?}", bodies(&slack.got()));

    let tested = world.gateway.run(&world.admin.key, &["alerts", "test", "slack"]).await.expect(0);
    assert!(tested.stdout.starts_with("slack: delivered"), "{}", tested.stdout);
    assert_eq!(slack.titles(), ["A test of Tollway's alerts"]);
    let failed = world.gateway.run(&world.admin.key, &["alerts", "test", "broken"]).await.expect(1);
    assert!(failed.stdout.contains("broken: waiting, next try"), "{}", failed.stdout);
    let unknown = world.gateway.run(&world.admin.key, &["alerts", "test", "nobody"]).await.expect(6);
    assert!(unknown.stderr.contains("there are broken, pager, slack"), "{}", unknown.stderr);
    let caller = world.key("search", json!({})).await;
    assert_eq!(caller.get("/api/v1/alerts").await.status, 403);
}
