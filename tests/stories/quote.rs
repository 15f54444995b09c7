//! Quotes: what a job would cost is told before it is submitted, and nothing of it is written.

use std::path::Path;

use e2e::{Setup, World, catalog, requests};
use serde_json::{Value, json};

/// As a decimal text of USD, in micro-USD; enough to compare.
fn micro(usd: &Value) -> i64 {
    let text = usd.as_str().unwrap_or_else(|| panic!("{usd} is no amount"));
    let (whole, places) = text.split_once('.').unwrap();
    whole.parse::<i64>().unwrap() * 1_000_000 + format!("{places:0<6}")[..6].parse::<i64>().unwrap()
}

fn warned(quote: &Value, of: &str) -> bool {
    quote["warnings"].as_array().unwrap().iter().any(|warning| warning.as_str().unwrap().contains(of))
}

async fn world(story: &str) -> World {
    World::start(story, |simulator| {
        let cheap = catalog::deployment(simulator, "cheap", "sim-small", "")
            + "[[prices]]\nprovider = 'sim'\nmodel = 'sim-small'\ninput = '0.05'\noutput = '0.15'\n";
        let dear = catalog::PRICES.to_owned() + &catalog::deployment(simulator, "dear", "sim-chat", "");
        Setup::new(dear + &cheap + &catalog::route("chat", &["dear", "cheap"]))
    })
    .await
}

#[tokio::test]
async fn a_quote_says_what_a_job_would_cost_and_how_long_it_would_take() {
    let world = world("quote").await;
    let caller = world.key("search", json!({})).await;
    let body = r#"{"model":"chat","messages":[{"role":"user","content":"a question"}],"max_tokens":100}"#;
    let file: String = (1..=40).map(|n| requests::line(&format!("line-{n}"), "/v1/chat/completions", body)).collect();

    let first = caller.post("/api/v1/quotes?lane=standard", file.clone()).await.expect(200).json();
    assert_eq!((&first["requests"], &first["lane"]), (&json!(40), &json!("standard")), "{first}");
    assert_eq!(first["routes"][0]["basis"], json!("assumed"));
    // 40 × (input at 0.5 + 100 output at 1.5 USD a million tokens); 512 tokens are assumed, and 100 are the most.
    let input = first["est_input_tokens"].as_i64().unwrap();
    assert_eq!(micro(&first["expected_cost_usd"]), input / 2 + 40 * 150, "{first}");
    // What is reserved has room for 18 tokens more of each: the provider's own name of the model, and asking for usage.
    assert_eq!(micro(&first["worst_cost_usd"]), (input + 40 * 18) / 2 + 40 * 150, "{first}");
    let saves = &first["routes"][0]["deployments"][1]["saves_usd"];
    assert_eq!(micro(saves), micro(&first["expected_cost_usd"]) * 9 / 10, "{first}");
    assert!(warned(&first, "cheap would save") && warned(&first, "nobody called it"), "{first}");
    assert_eq!(first["duration_s"], Value::Null);
    assert_eq!(world.db.number("select count(*) from job").await, 0);
    assert_eq!(world.simulator.calls().await, 0);

    let small = json!({"limit_usd": "0.001", "window": "day", "scope": {"team": "search"}});
    world.admin.put("/api/v1/budgets/small", &small).await.expect(200);
    let elsewhere = json!({"limit_tokens": 1_000_000, "window": "day", "scope": {"feature": "other"}});
    world.admin.put("/api/v1/budgets/elsewhere", &elsewhere).await.expect(200);
    let broke = caller.post("/api/v1/quotes", file.clone()).await.expect(200).json();
    let budgets = broke["budgets"].as_array().unwrap();
    assert_eq!(
        (budgets.len(), &budgets[0]["budget"], &budgets[0]["fits"]),
        (1, &json!("small"), &json!("no")),
        "{broke}"
    );
    assert_eq!((&budgets[0]["worst"], &budgets[0]["left"]), (&broke["worst_cost_usd"], &json!("0.001")), "{broke}");
    assert!(warned(&broke, "Budget small has 0.001 USD left"), "{broke}");
    world.admin.delete("/api/v1/budgets/small").await.expect(204);

    let job = caller.submit("", file.clone()).await;
    let cost = caller.ended(&job).await["cost_usd"].clone();
    let second = caller.post("/api/v1/quotes?deadline=2099-01-01T00:00:00Z", file.clone()).await.expect(200).json();
    assert_eq!(second["routes"][0]["basis"], json!("own_calls"));
    let (expected, worst) = (micro(&second["expected_cost_usd"]), micro(&second["worst_cost_usd"]));
    // Their input is counted by the provider, and estimated here.
    assert!((expected - micro(&cost)).abs() <= micro(&cost) / 10, "it cost {cost}: {second}");
    assert!(expected < worst, "answers are shorter than they may be: {second}");
    let seconds = |edge| second["duration_s"][edge].as_u64();
    assert!(seconds("low") >= Some(1) && seconds("low") <= seconds("high"), "{second}");
    assert_eq!(second["lanes"][0]["lane"], json!("standard"), "it is in bulk: {second}");
    let other = world.key("other", json!({})).await;
    let theirs = other.post("/api/v1/quotes", file.clone()).await.expect(200).json();
    assert_eq!(theirs["routes"][0]["basis"], json!("all_calls"));
    assert_eq!(world.db.number("select count(*) from job").await, 1);
    world.check().await;
}

#[tokio::test]
async fn what_a_submission_would_refuse_has_no_quote() {
    let world = world("no_quote").await;
    let caller = world.key("search", json!({})).await;
    let bad = requests::chat(2) + "{}\n";
    let refused = caller.post("/api/v1/quotes", bad).await.expect(422).json();
    assert_eq!((&refused["code"], &refused["line"]), (&json!("bad_line"), &json!(3)), "{refused}");
    caller.post("/api/v1/quotes?lane=prod", requests::chat(1)).await.expect(403);
    caller.post("/api/v1/quotes?deadline=2001-01-01T00:00:00Z", requests::chat(1)).await.expect(422);
    let reader = world.key("search", json!({"role": "read"})).await;
    reader.post("/api/v1/quotes", requests::chat(1)).await.expect(403);

    let file = world.dir.path().join("requests.jsonl");
    std::fs::write(&file, requests::chat(3)).unwrap();
    let path = Path::new(&file).to_str().unwrap();
    let told = world.gateway.run(&caller.key, &["quote", path]).await.expect(0);
    assert!(
        told.stdout.contains("3 requests in lane bulk") && told.stdout.contains("Set max_tokens"),
        "{}",
        told.stdout
    );
    world.gateway.run(&caller.key, &["quote", "/nowhere"]).await.expect(4);
}
