//! Jobs that cost much: somebody approves them before they begin, or they may cost only so much.

use std::time::Duration;

use e2e::{Setup, World, catalog, client::paused_by, oracle::DOLLAR, requests, until};
use serde_json::{Value, json};

/// $1 for 500 tokens of output, and twice that at most.
const PRICES: &str = "
[[prices]]
provider = 'sim'
model = 'sim-chat'
input = '0.5'
output = '2000'
";

async fn world(story: &str, lease_s: u64, more: &'static str) -> World {
    let setup = |simulator: &_| {
        let only = catalog::deployment(simulator, "only", "sim-chat", "");
        let own = catalog::deployment(simulator, "own", "sim-own", "");
        let own_route = "[routes.own]\ndeployments = ['own']\nallow_unpriced = true\n";
        let catalog = PRICES.to_owned() + &only + &catalog::route("chat", &["only"]) + &own + own_route + more;
        Setup { slots: 32, lease_s, ..Setup::new(catalog) }
    };
    let world = World::start(story, setup).await;
    world.simulator.answers_long("only", 10..=40).await;
    world
}

fn lines(count: usize) -> String {
    requests::long_chat("chat", count)
}

#[tokio::test]
async fn what_costs_much_begins_when_it_is_approved() {
    let teams = "[approval]\nabove_usd = '100'\n[teams.thrifty]\napprove_above_usd = '5'\n";
    let world = world("approval", 30, teams).await;
    let (search, thrifty) = (world.key("search", json!({})).await, world.key("thrifty", json!({})).await);
    let small = search.submit("", lines(20)).await;
    assert_eq!(search.ended(&small).await["counts"]["succeeded"], 20);

    // Nobody called the model for long: a request is expected to be answered with 500 tokens, as those twenty were.
    let large = search.post("/api/v1/jobs", lines(120)).await.expect(202).json();
    assert_eq!((&large["state"], &large["waits"]["reason"]), (&json!("paused"), &json!("approval")), "{large}");
    let why = large["waiting_reason"].as_str().unwrap_or_default();
    assert!(why.starts_with("it is expected to cost $120.00"), "{why}");
    let own = thrifty.post("/api/v1/jobs", lines(20)).await.expect(202).json();
    assert_eq!(paused_by(&own), ["approval"], "{own}");
    let unpriced = requests::line("a", "/v1/chat/completions", &requests::chat_body("own", 1));
    let unpriced = search.post("/api/v1/jobs", unpriced).await.expect(202).json();
    assert!(unpriced["waiting_reason"].as_str().is_some_and(|why| why.contains("no price")), "{unpriced}");

    let id = |job: &Value| job["id"].as_str().expect("an id").to_owned();
    let (large, own, unpriced) = (id(&large), id(&own), id(&unpriced));
    let calls = world.simulator.calls().await;
    search.post(&format!("/api/v1/jobs/{large}/resume"), "").await.expect(409);
    search.post(&format!("/api/v1/jobs/{large}/approve"), "").await.expect(403);
    search.post(&format!("/api/v1/jobs/{unpriced}/cancel"), "").await.expect(200);
    assert_eq!(search.ended(&unpriced).await["counts"]["cancelled"], 1);
    assert_eq!(world.simulator.calls().await, calls, "something of them was called");
    for job in [&large, &own] {
        let approved = world.admin.post(&format!("/api/v1/jobs/{job}/approve"), "").await.expect(200).json();
        assert!(paused_by(&approved).is_empty(), "{approved}");
        let ended = search.at(&world.gateway.url);
        let owner = if job == &own { &thrifty } else { &ended };
        let failed = owner.ended(job).await["counts"]["failed"].clone();
        assert_eq!(failed, 0);
    }
    // Nothing is approved that did not wait, and one that comes after another waits for both.
    world.admin.post(&format!("/api/v1/jobs/{small}/approve"), "").await.expect(409);
    let first = thrifty.submit("?start_at=2099-01-01T00:00:00Z", lines(1)).await;
    let second = thrifty.submit(&format!("?after={first}:end"), lines(20)).await;
    world.admin.post(&format!("/api/v1/jobs/{second}/approve"), "").await.expect(200);
    assert_eq!(thrifty.job(&second).await["waits"]["reason"], "after");
    thrifty.post(&format!("/api/v1/jobs/{first}/cancel"), "").await.expect(200);
    assert_eq!(thrifty.ended(&second).await["counts"]["succeeded"], 20);
    world.check().await;
}

#[tokio::test]
async fn a_job_costs_no_more_than_was_said_and_goes_on_when_that_is_raised() {
    let mut world = world("max_cost", 5, "").await;
    let second = world.replica("second", &world.setup).await;
    let search = world.key("search", json!({})).await;
    for (most, code, said) in [
        ("0", 422, "not above zero"),
        ("-1", 422, "not above zero"),
        ("much", 400, "max_cost"),
        ("1.5", 422, "one request of model chat may cost $2.00"),
    ] {
        let refused = search.post(&format!("/api/v1/jobs?max_cost={most}"), lines(3)).await.expect(code).text();
        assert!(refused.contains(said), "{refused}");
    }
    let job = search.submit("?max_cost=50", lines(100)).await;
    let waiting = search.job_when(&job, "to be at its most", |job| paused_by(job) == ["max_cost"]).await;
    assert_eq!((&waiting["max_cost"], &waiting["waits"]["reason"]), (&json!("50.00"), &json!("max_cost")), "{waiting}");
    let waiting = search.job_when(&job, "to have nothing under way", |job| job["in_flight"] == 0).await;
    let spent = e2e::oracle::pico(&waiting["cost_usd"]);
    assert!(spent <= 50 * DOLLAR && spent > 47 * DOLLAR, "{waiting}");
    let why = waiting["waiting_reason"].as_str().unwrap_or_default();
    assert!(why.starts_with("its max_cost is $50.00; $4"), "{why}");
    search.post(&format!("/api/v1/jobs/{job}/resume"), "").await.expect(409);
    world.admin.post(&format!("/api/v1/jobs/{job}/approve"), "").await.expect(409);

    // A replica that dies takes what it was granted with it, and nothing more is spent for that.
    let raised = world.gateway.run(&search.key, &["jobs", "set", &job, "--max-cost", "80"]).await.expect(0);
    assert!(raised.stdout.contains("at most $80.00"), "{}", raised.stdout);
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.gateway.kill9();
    world.gateway.restart().await;
    let charged = async || world.simulator.charged("only", 500_000, 2_000_000_000).await;
    search.at(&second.url).job_when(&job, "to be at its most again", |job| paused_by(job) == ["max_cost"]).await;
    assert!(charged().await <= 80 * DOLLAR, "{}", charged().await);
    let patch = search.request(reqwest::Method::PATCH, &format!("/api/v1/jobs/{job}")).body(r#"{"max_cost":"400"}"#);
    e2e::client::send(patch).await.expect(200);
    let ended = search.ended(&job).await;
    assert_eq!(ended["counts"]["succeeded"], 100, "{ended}");
    let free = search.submit("", lines(1)).await;
    let patch = search.request(reqwest::Method::PATCH, &format!("/api/v1/jobs/{free}")).body(r#"{"max_cost":"9"}"#);
    let refused = e2e::client::send(patch).await;
    assert!(matches!(refused.status, 409 | 422), "it has ended, or was submitted without one: {}", refused.text());
    until("it to be counted", Duration::from_secs(30), async || {
        let counted = "select count(*) from budget_part p where p.cap is not null
                         and (select sum(spent) from budget_use u where u.budget_id = p.part_id)
                             = (select sum(contracted_cost) from ledger l where l.job_id = p.job_id)";
        (world.db.number(counted).await == 1).then_some(())
    })
    .await;
    world.check().await;
}
