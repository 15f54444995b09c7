use admission::budgets::{Burnt, shown};
use domain::Budget;
use serde_json::{Value, json};
use store::budget::{BudgetRow, Standing};

use super::*;
use crate::alerts::message::tests::assert_sent;

const NOON: &str = "2026-11-23T12:00:00Z";

fn budget(more: Value) -> Budget {
    let mut budget = json!({"limit_usd": "100", "window": "day", "scope": {"team": "search"}});
    budget.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(budget).unwrap()
}

/// What is told of a budget of which so many cents are spent at noon, by and by.
fn told(more: Value, cents: i128) -> Vec<Raised> {
    told_of(more, cents, cents / 12)
}

/// The same, with so many of them in the last hour.
fn told_of(more: Value, cents: i128, lately: i128) -> Vec<Raised> {
    let row =
        BudgetRow { budget_id: 7, name: "b".into(), budget: budget(more), is_file_managed: false, is_counted: true };
    let spent = cents * 10_000_000_000;
    let standing = Standing { spent, taken: spent, ..Standing::default() };
    let now = NOON.parse().unwrap();
    let burnt = Burnt { spent: lately * 10_000_000_000, since: now - TimeDelta::hours(1) };
    of(&shown(row, standing, Some(burnt), now), now).collect()
}

fn thresholds(raised: &[Raised]) -> Vec<(i32, Vec<i32>)> {
    raised.iter().map(|one| (one.key.threshold, one.silent.iter().map(|key| key.threshold).collect())).collect()
}

#[test]
fn the_highest_threshold_speaks_for_those_below() {
    assert_eq!(thresholds(&told(json!({}), 4_900)), []);
    assert_eq!(thresholds(&told(json!({"thresholds": [90]}), 4_900)), []);
    assert_eq!(thresholds(&told(json!({"window": "total"}), 8_500)), [(80, vec![50])]);
    let full = told(json!({}), 9_950);
    assert_eq!(full[0].said.title, "Budget b is used up");
    assert_eq!((full[0].team.as_deref(), full[0].object.as_str()), (Some("search"), "b"));
    assert_eq!(thresholds(&full), [(100, vec![80, 50])]);
}

#[test]
fn a_message_says_what_is_spent_and_what_happens() {
    let told = told(json!({"thresholds": [80]}), 8_500).remove(0);
    assert_eq!(
        told.said.text,
        "$85.00 of $100.00 (85 %) is spent. Window: day; of: team=search. At the limit, calls get 402, and requests of jobs \
         wait. It resets at 2026-11-24 00:00 UTC."
    );
    let fields: Vec<_> = told.said.fields.iter().map(|field| format!("{}: {}", field.name, field.value)).collect();
    assert_eq!(fields[..3], ["Limit: $100.00", "Spent: $85.00", "Left: $15.00"]);
}

#[test]
fn what_will_not_last_is_told_before_it_is_reached() {
    let projected = told(json!({"thresholds": [100]}), 6_000);
    assert_eq!(thresholds(&projected), [(PROJECTED, vec![])]);
    assert_eq!(
        projected[0].said.text,
        "At $5.00 an hour, its $100.00 will be used up at 2026-11-23 20:00 UTC, before it resets at 2026-11-24 00:00 UTC. At \
         the limit, calls get 402, and requests of jobs wait."
    );
    assert_eq!(thresholds(&told(json!({"thresholds": [100], "window": "rolling 24h"}), 6_000)), []);
    assert_eq!(thresholds(&told(json!({"thresholds": [100], "window": "total"}), 6_000)), []);
}

#[test]
fn what_is_sent() {
    assert_sent("budget_reached", &told(json!({"thresholds": [50, 80]}), 8_500)[0]);
    assert_sent("budget_used_up", &told(json!({}), 9_950)[0]);
    let projected = told(json!({"thresholds": [100], "soft": true}), 6_000);
    assert_sent("budget_projected", &projected[0]);
}

#[test]
fn what_burns_now_is_what_will_not_last() {
    let of = |window: &str, cents, lately| {
        thresholds(&told_of(json!({"thresholds": [100], "window": window}), cents, lately)).len()
    };
    assert_eq!((of("day", 2_000, 800), of("day", 6_000, 300)), (1, 0));
    // The month is 23 days old, and has a week to go.
    assert_eq!((of("month", 2_000, 400), of("month", 2_000, 200)), (1, 0), "gone within a day, or not");
    assert_eq!(of("month", 8_500, 15), 1, "all the month says so");
}

#[test]
fn an_alert_holds_for_its_window() {
    let until = |window: &str| told(json!({"window": window}), 5_000).remove(0).key.until.map(|at| at.to_rfc3339());
    assert_eq!(until("day").as_deref(), Some("2026-11-24T00:00:00+00:00"));
    assert_eq!(until("rolling 6h").as_deref(), Some("2026-11-23T18:00:00+00:00"));
    assert_eq!(until("total"), None);
}

#[test]
fn a_raised_budget_tells_of_the_thresholds_of_its_new_amount() {
    let about = |limit: &str, cents| told(json!({"limit_usd": limit}), cents).remove(0).key.about;
    assert_eq!(about("100", 8_500), about("100.00", 9_950), "the amount is the same");
    assert_ne!(about("100", 8_500), about("200", 17_000), "raised");
    assert_ne!(about("100", 8_500), about("50", 4_500), "lowered");
}
