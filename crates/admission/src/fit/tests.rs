use domain::Catalog;
use serde_json::json;
use store::budget::BudgetRow;

use super::*;
use crate::{catalog::ActiveCatalog, limits::Kind};

fn now() -> DateTime<Utc> {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

/// `known` has a context in the price list, `own` has none and costs $1 a token in and out; `both` may be served by either.
fn catalog() -> ActiveCatalog {
    let deployment = |model: &str| json!({"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": model});
    let catalog: Catalog = serde_json::from_value(json!({
        "deployments": {"known": deployment("gpt-4o"), "own": deployment("m")},
        "routes": {
            "known": {"deployments": ["known"]},
            "own": {"deployments": ["own"]},
            "both": {"deployments": ["known", "own"]},
        },
        "prices": [{"provider": "openai", "model": "m", "input": "1000000", "output": "1000000"}],
    }))
    .unwrap();
    ActiveCatalog::build(1, catalog).unwrap()
}

fn size(route: &str, members: &str) -> (i64, Option<i64>) {
    let body = format!(r#"{{"model":"{route}","messages":[{{"role":"user","content":"Hi"}}]{members}}}"#);
    let call = Call::parse(Endpoint::ChatCompletions, &body).unwrap();
    SizeRule::of(catalog().route(route).unwrap(), Endpoint::ChatCompletions).size(&call)
}

#[test]
fn a_model_bounds_what_a_call_may_take() {
    let context = PricedModel::context(catalog().deployment("known").unwrap().price.as_ref().unwrap()).unwrap();
    let all = |route, members| size(route, members).1;
    assert_eq!(all("known", r#","max_tokens":2147483647"#), Some(context));
    assert_eq!(all("known", r#","max_tokens":2147483647,"n":3"#), Some(3 * context));
    assert_eq!(all("own", r#","max_tokens":2147483647"#), Some(UNKNOWN_MAX_OUTPUT));
    assert_eq!(all("both", r#","max_tokens":2147483647"#), Some(UNKNOWN_MAX_OUTPUT));
    assert_eq!(all("own", r#","max_tokens":100,"n":100"#), Some(10_000));
    assert_eq!(all("own", ""), None);
}

/// What is said of a call of `route` under these limits and budgets, for a caller of team `a` in lane `bulk`.
fn check(limits: &[(&str, i64)], budgets: &[serde_json::Value], route: &str, size: (i64, Option<i64>)) -> String {
    let limiter = Limiter::default();
    limits.iter().for_each(|(scope, cap)| limiter.declare(scope, Kind::Tpm, *cap));
    let rows = budgets.iter().enumerate().map(|(n, budget)| BudgetRow {
        budget_id: n as i64 + 1,
        name: format!("b{n}"),
        budget: serde_json::from_value(budget.clone()).unwrap(),
        is_file_managed: false,
        is_counted: true,
    });
    let index = Budgets::default();
    index.turn_to(1, rows.collect());
    let (lane, tags) = (Lane::bulk(), Tags::default());
    let bounds = Bounds {
        limits: &limiter,
        budgets: &index,
        team_id: 7,
        team: "a",
        key_id: "k",
        lane: &lane,
        tags: &tags,
        now: now(),
    };
    let catalog = catalog();
    let ceilings = bounds.of(catalog.route(route).unwrap(), Endpoint::ChatCompletions);
    ceilings.check(size.0, size.1).map_or_else(|never| never.to_string(), |()| "fits".to_owned())
}

#[test]
fn a_call_larger_than_a_whole_limit_can_never_fit() {
    let said = |limits: &[(&str, i64)], route| check(limits, &[], route, (1_000, Some(4_000)));
    assert_eq!(said(&[("team:7", 5_000)], "own"), "fits");
    assert_eq!(
        said(&[("team:7", 4_999)], "own"),
        "it can never fit: asks 5000 tokens, limit 4999 tokens a minute (tpm of team:a); ask for less, as by a smaller \
         max_tokens, or have it raised"
    );
    assert!(said(&[("lane:bulk:team:7", 9), ("key:k", 8)], "own").contains("limit 8 tokens a minute (tpm of key:k)"));
    assert_eq!(said(&[("team:8", 9), ("lane:prod:team:7", 9), ("key:x", 9)], "own"), "fits");
    assert!(said(&[("deployment:own", 4_999)], "own").contains("(tpm of deployment:own)"));
    assert_eq!(said(&[("deployment:own", 4_999)], "both"), "fits", "the other one takes it");
    assert!(said(&[("deployment:own", 9), ("deployment:known", 4_000)], "both").contains("limit 4000 tokens"));
    let reserved = [("deployment:own", 6_000), ("deployment:own:reserve:bulk", 600), ("deployment:own:shared", 4_800)];
    assert!(said(&reserved, "own").contains("limit 4800 tokens"), "a call takes from one of the parts");
}

#[test]
fn a_call_larger_than_a_whole_budget_can_never_fit() {
    let said = |budget: serde_json::Value, route| check(&[], &[budget], route, (1_000, Some(4_000)));
    let tokens = |most: i64| json!({"limit_tokens": most, "window": "day"});
    assert_eq!(said(tokens(5_017), "own"), "fits");
    let told = said(tokens(5_000), "own");
    assert!(told.starts_with("it can never fit: asks 5017 tokens, limit 5000 tokens (budget b0)"), "{told}");
    let told = said(json!({"limit_usd": "10.00", "window": "total"}), "own");
    assert!(told.starts_with("it can never fit: asks $5017.00, limit $10.00 (budget b0)"), "{told}");
    let soft = json!({"limit_tokens": 9, "window": "day", "soft": true});
    assert_eq!(
        (said(soft, "own"), said(json!({"limit_tokens": 9, "window": "day", "policy": "alert"}), "own")),
        ("fits".into(), "fits".into())
    );
    let others = json!({"limit_tokens": 9, "window": "day", "scope": {"team": "b"}});
    assert_eq!(said(others, "own"), "fits");
    let one_deployment = json!({"limit_tokens": 9, "window": "day", "scope": {"deployment": "own"}});
    assert_eq!(said(one_deployment, "both"), "fits", "the other one takes it");
}

#[test]
fn a_call_without_a_maximum_takes_what_is_assumed() {
    let tokens = json!({"limit_tokens": 30_000, "window": "day"});
    assert!(check(&[], &[tokens], "own", (1_000, None)).contains("asks 33785 tokens, limit 30000 tokens"));
    assert_eq!(check(&[("team:7", 1_000)], &[], "own", (1_000, None)), "fits", "a rate counts what is said");
}
