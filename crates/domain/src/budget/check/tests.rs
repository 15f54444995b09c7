use serde_json::json;

use super::*;

fn budget(more: serde_json::Value) -> Budget {
    let mut text = json!({"limit_usd": "10", "window": "month"});
    text.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(text).unwrap()
}

fn said(more: serde_json::Value) -> Option<String> {
    check(&budget(more)).err().map(|bad| bad.to_string())
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    assert_eq!(said(json!({})), None);
    assert_eq!(said(json!({"guard": {"percent": 10, "per": "28d", "by": "team"}})), None);
    assert_eq!(said(json!({"window": "total", "guard": {"percent": 100, "per": "1s"}})), None);
    assert_eq!(said(json!({"soft": true, "thresholds": [80, 120]})), None);
    for (more, expected) in [
        (json!({"limit_usd": "0"}), "limit_usd is 0.00; a limit is above zero"),
        (json!({"limit_usd": "-1.5"}), "limit_usd is -1.50; a limit is above zero"),
        (json!({"limit_usd": null, "limit_tokens": -5}), "limit_tokens is -5; a limit is above zero"),
        (json!({"limit_usd": null}), "limit_usd is missing, and so is limit_tokens"),
        (json!({"limit_tokens": 5}), "limit_tokens stands beside limit_usd; a budget counts one of the two"),
        (json!({"thresholds": [50, 120]}), "thresholds has 120, which a budget that is not soft never reaches"),
        (json!({"thresholds": [80, 50]}), "thresholds ascend, and none comes twice"),
        (json!({"thresholds": [0]}), "thresholds has 0; it is from 1 to 1000 percent"),
        (
            json!({"soft": true, "policy": "hold"}),
            "policy is hold, but a soft budget lets calls through: alert or downgrade",
        ),
        (json!({"guard": {"percent": 0, "per": "1h"}}), "guard.percent is 0; it is from 1 to 100 percent of the limit"),
        (
            json!({"guard": {"percent": 101, "per": "1h"}}),
            "guard.percent is 101; it is from 1 to 100 percent of the limit",
        ),
        (json!({"guard": {"percent": 10, "per": "29d"}}), "guard.per is 29d, longer than the budget's window, month"),
        (
            json!({"limit_usd": null, "limit_tokens": 9, "guard": {"percent": 10, "per": "1h"}}),
            "guard.percent of so small a limit is nothing",
        ),
    ] {
        assert_eq!(said(more).as_deref(), Some(expected));
    }
}

/// Nothing would ever be counted of a tag that no call can have.
#[test]
fn a_tag_that_no_call_can_have_is_refused_with_what_it_should_be() {
    let long = "k".repeat(129);
    let many: std::collections::BTreeMap<String, &str> = (0..15).map(|n| (format!("k{n}"), "v")).collect();
    assert_eq!(said(json!({"scope": {"tags": {"sprint": "42", "cost_center": "7"}}})), None);
    assert_eq!(said(json!({"scope": {"feature": "unattributed", "tags": many}})), None);
    let key = |shown: &str| {
        format!("scope: a tag's key has 1 to 128 of the characters a-z, 0-9, _, - and .; {shown:?} does not")
    };
    let value = |tag: &str| {
        format!("scope: the value of tag {tag:?} is empty, longer than 128 bytes, or has control characters")
    };
    let reserved = |tag: &str| format!("scope.tags has {tag}, which is said as scope.{tag}");
    for (scope, expected) in [
        (json!({"tags": {"": "x"}}), key("")),
        (json!({"tags": {"Sprint": "x"}}), key("Sprint")),
        (json!({"tags": {"a tag": "x"}}), key("a tag")),
        (json!({"tags": {&long: "x"}}), key(&long[..64])),
        (json!({"tags": {"sprint": ""}}), value("sprint")),
        (json!({"tags": {"sprint": "a\nb"}}), value("sprint")),
        (json!({"customer": ""}), value("customer")),
        (json!({"environment": long}), value("environment")),
        (json!({"tags": {"team": "search"}}), reserved("team")),
        (json!({"tags": {"environment": "prod"}}), reserved("environment")),
        (json!({"tags": {"feature": "x"}}), reserved("feature")),
        (json!({"tags": {"customer": "acme"}}), reserved("customer")),
        (
            json!({"feature": "x", "customer": "y", "tags": many}),
            "scope: at most 16 tags are allowed (got 17)".to_owned(),
        ),
    ] {
        assert_eq!(said(json!({"scope": scope})), Some(expected), "{scope}");
    }
    for unknown in ["sprint", "cost_center", "tag", "Team"] {
        let refused = serde_json::from_value::<Scope>(json!({unknown: "x"})).unwrap_err().to_string();
        assert!(refused.contains(&format!("unknown field `{unknown}`")) && refused.contains("`tags`"), "{refused}");
    }
}

#[test]
fn what_it_names_exists_and_nothing_is_counted_twice() {
    let known = Known { teams: ["search"].into(), deployments: ["d"].into(), ..Known::default() };
    let of = |scope: serde_json::Value| budget(json!({ "scope": scope }));
    let beside = |budget: &Budget, others: &[(&str, Budget)]| {
        let others = others.iter().map(|(name, budget)| (*name, budget));
        check_beside(budget, &known, others).err().map(|bad| bad.to_string())
    };
    let search = of(json!({"team": "search", "deployment": "d"}));
    assert_eq!(beside(&search, &[]), None);
    for (scope, dimension) in [
        (json!({"team": "seerch"}), "scope.team = \"seerch\""),
        (json!({"deployment": "e"}), "scope.deployment = \"e\""),
        (json!({"provider": "p"}), "scope.provider = \"p\""),
        (json!({"key": "k"}), "scope.key = \"k\""),
    ] {
        let expected = format!("{dimension} is not known; nothing would ever be counted");
        assert_eq!(beside(&of(scope), &[]), Some(expected));
    }
    let twin = Budget { limit_usd: Some("99".parse().unwrap()), ..search.clone() };
    let refused = beside(&search, &[("old", twin.clone())]).unwrap();
    assert!(refused.contains("what budget old counts"), "{refused}");
    let tokens = Budget { limit_usd: None, limit_tokens: Some(5), ..twin };
    assert_eq!(beside(&search, &[("old", tokens)]), None, "tokens are something else than money");
}

#[test]
fn names() {
    assert!(check_name("search-month_2").is_ok());
    for name in ["", "-a", "A", "a.b", &"a".repeat(64)] {
        assert!(check_name(name).is_err(), "{name}");
    }
}

#[test]
fn a_budget_of_another_time_zone_or_window_is_another_budget() {
    let of = |window: &str, zone: &str| budget(json!({"window": window, "time_zone": zone}));
    for window in ["hour", "day", "week", "month"] {
        assert!(!of(window, "UTC").counts_as(&of(window, "Europe/Berlin")), "{window}");
        assert!(of(window, "Europe/Berlin").counts_as(&of(window, "Europe/Berlin")), "{window}");
    }
    for window in ["total", "rolling 24h"] {
        assert!(of(window, "UTC").counts_as(&of(window, "Europe/Berlin")), "{window} is the same in every zone");
    }
    assert!(!of("rolling 24h", "UTC").counts_as(&of("day", "UTC")));
    let known = Known::default();
    let (utc, berlin) = (of("day", "UTC"), of("day", "Europe/Berlin"));
    assert!(check_beside(&berlin, &known, [("utc", &utc)]).is_ok());
    let refused = check_beside(&berlin, &known, [("utc", &utc), ("berlin", &berlin)]).unwrap_err();
    assert_eq!(refused, BadBudget::Duplicate("berlin".into()));
}
