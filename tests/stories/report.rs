//! Finance asks what was spent, by whom and for what, and gets it to the last pico-dollar; a team sees its own.

use e2e::{Setup, World, catalog, client::send, requests};
use reqwest::Method;
use serde_json::{Value, json};

const SPEND: &str = "/api/v1/reports/spend";

#[tokio::test]
async fn spend_by_team_and_feature_over_the_api() {
    let world = World::start("report", |simulator| Setup::new(catalog::usual(simulator, ""))).await;
    let (search, support) = (world.key("search", json!({})).await, world.key("support", json!({})).await);
    let finance = world.key("money", json!({"role": "finance"})).await;
    for (caller, feature, lines) in [(&search, "reindex", 30), (&search, "suggest", 10), (&support, "bot", 20)] {
        let id = caller.submit(&format!("?tags=feature={feature}"), requests::chat(lines)).await;
        caller.ended(&id).await;
    }
    let call = world.admin.request(Method::POST, "/v1/embeddings").body(r#"{"model":"embed","input":"x"}"#);
    let call = send(call.header("x-tollway-tags", "feature=live")).await.expect(200);
    world.admin.call(call.header("x-tollway-request-id").expect("it is named")).await;
    world.check().await;

    let report = finance.get(&format!("{SPEND}?by=team,feature")).await.expect(200).json();
    let mut rows: Vec<(String, i64)> = rows(&report)
        .iter()
        .map(|row| {
            (format!("{} {}", text(&row["team"]), text(&row["feature"])), row["requests"].as_i64().unwrap_or(-1))
        })
        .collect();
    rows.sort();
    let expected = [("ops live", 1), ("search reindex", 30), ("search suggest", 10), ("support bot", 20)];
    assert_eq!(rows, expected.map(|(name, requests)| (name.to_owned(), requests)));

    // One team's key sees that team, whatever it asks for.
    let own = search.get(&format!("{SPEND}?by=team")).await.expect(200).json();
    assert_eq!(self::rows(&own).iter().map(|row| text(&row["team"])).collect::<Vec<_>>(), ["search"]);
    search.get(&format!("{SPEND}?by=team&team=support")).await.expect(404);
    let filtered = finance.get(&format!("{SPEND}?by=model&team=support")).await.expect(200).json();
    assert_eq!((self::rows(&filtered).len(), &filtered["total"]["requests"]), (1, &json!(20)), "{filtered}");

    let csv = finance.get(&format!("{SPEND}?by=team&format=csv")).await.expect(200);
    assert!(csv.header("content-type").is_some_and(|media| media.starts_with("text/csv")));
    assert_eq!(csv.text().lines().count(), 4, "a head and three teams: {}", csv.text());
    assert_eq!(csv.header("x-tollway-lake-behind"), Some("0"), "the world was checked, so all of it is exported");
    assert_eq!(report["lake"]["rows_behind"], 0, "{report}");
    let parquet = finance.get(&format!("{SPEND}?by=team&format=parquet")).await.expect(200);
    assert!(parquet.body.starts_with(b"PAR1") && parquet.body.ends_with(b"PAR1"));
    let none = finance.get(&format!("{SPEND}?by=team&from=2001-01-01&to=2001-01-31")).await.expect(200).json();
    assert_eq!((self::rows(&none).len(), none["note"].is_string()), (0, true), "{none}");

    let unknown = finance.get(&format!("{SPEND}?by=teem")).await.expect(422).json();
    assert!(text(&unknown["detail"]).contains("team"), "the nearest one is not named: {unknown}");
    finance.get(&format!("{SPEND}?by=team&from=yesterday")).await.expect(400);
    finance.get(&format!("{SPEND}?by=--out=x")).await.expect(400);
    // Who runs the gateway sees what it costs; who only submits sees no keys and no limits.
    search.get("/api/v1/limits").await.expect(403);
}

fn rows(report: &Value) -> &[Value] {
    report["rows"].as_array().unwrap_or_else(|| panic!("{report}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value}"))
}
