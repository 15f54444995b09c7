//! What calls hold of budgets, without Postgres: grants are given by hand.

use chrono::TimeDelta;
use domain::{Catalog, Endpoint, LedgerRow};
use serde_json::{Value, json};
use store::budget::BudgetRow;

use super::*;
use crate::{catalog::ActiveCatalog, testing};

/// Of a model at $1 a token in and out: what a call holds is its tokens in dollars.
fn deployment(model: &str) -> Arc<ActiveDeployment> {
    let price = json!({"provider": "openai", "model": "m", "input": "1000000", "output": "1000000"});
    let catalog: Catalog = serde_json::from_value(json!({
        "deployments": {"d": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": model}},
        "routes": {"r": {"deployments": ["d"]}},
        "prices": [price],
    }))
    .unwrap();
    Arc::clone(ActiveCatalog::build(1, catalog).unwrap().deployment("d").unwrap())
}

fn row(budget_id: i64, budget: Value) -> BudgetRow {
    let budget = serde_json::from_value(budget).unwrap();
    BudgetRow { budget_id, name: format!("b{budget_id}"), budget, is_file_managed: false, is_counted: true }
}

/// 100 tokens in, 17 of them added, and 100 out.
fn ask(team: &str) -> ReservationRequest {
    ReservationRequest {
        team: team.into(),
        key: "k".into(),
        job: None,
        max_cost: None,
        tags: Arc::default(),
        endpoint: Endpoint::ChatCompletions,
        est_in: 83,
        max_out: Some(100),
        is_oversized: false,
    }
}

fn now() -> DateTime<Utc> {
    "2026-11-23T12:59:59Z".parse().unwrap()
}

fn grant(budgets: &Budgets, id: i64, amount: i128) {
    let rules = budgets.index().rules.clone();
    let rule = rules.iter().find(|rule| rule.id == id).unwrap();
    rule.state().cell(rule, now()).account.granted += amount;
}

/// Used and reserved of a budget's cell at `at`.
fn stands(budgets: &Budgets, id: i64, at: DateTime<Utc>) -> (i128, i128) {
    let rules = budgets.index().rules.clone();
    let rule = rules.iter().find(|rule| rule.id == id).unwrap();
    let account = rule.state().cell(rule, at).account;
    (account.used, account.reserved)
}

fn charged(tokens: i64) -> LedgerRow {
    let mut row = LedgerRow { team: "a".into(), requested_at: now(), completed_at: now(), ..testing::call_row(1) };
    (row.prompt_total, row.contracted_cost) = (Some(tokens), Some(tokens * 1_000_000));
    row
}

fn reserve(budgets: &Budgets, team: &str) -> Result<Reservation, Refusal> {
    budgets.reserve(&ask(team), &deployment("m"), now(), Urgency::CanWait)
}

const TOKENS: i128 = 200;

#[test]
fn a_call_is_held_of_all_budgets_or_of_none() {
    let budgets = Budgets::default();
    let tokens = json!({"limit_tokens": 1_000, "window": "day"});
    let of_team = json!({"scope": {"team": "a"}, "limit_tokens": 300, "window": "day"});
    budgets.turn_to(1, vec![row(1, tokens), row(2, of_team)]);
    grant(&budgets, 1, 1_000);
    grant(&budgets, 2, 300);
    let first = reserve(&budgets, "a").unwrap();
    let refusal = reserve(&budgets, "a").unwrap_err();
    assert_eq!((&*refusal.rule.name, refusal.asked), ("b2", TOKENS));
    assert_eq!((stands(&budgets, 1, now()), stands(&budgets, 2, now())), ((TOKENS, TOKENS), (TOKENS, TOKENS)));
    let other = reserve(&budgets, "b").unwrap();
    first.settle(&charged(50));
    other.release();
    assert_eq!((stands(&budgets, 1, now()), stands(&budgets, 2, now())), ((50, 0), (50, 0)));
}

#[test]
fn what_was_sent_and_dropped_stays_used() {
    let budgets = Budgets::default();
    budgets.turn_to(1, vec![row(1, json!({"limit_tokens": 1_000, "window": "day"}))]);
    grant(&budgets, 1, 1_000);
    drop(reserve(&budgets, "a").unwrap());
    assert_eq!(stands(&budgets, 1, now()), (0, 0), "it was not made");
    let sent = reserve(&budgets, "a").unwrap();
    sent.mark_sent();
    drop(sent);
    assert_eq!(stands(&budgets, 1, now()), (TOKENS, 0), "nobody knows what it cost");
    assert!(budgets.calls.all().is_empty());
}

#[test]
fn a_charge_belongs_to_the_window_in_which_it_was_held() {
    let budgets = Budgets::default();
    budgets.turn_to(1, vec![row(1, json!({"limit_tokens": 1_000, "window": "hour"}))]);
    grant(&budgets, 1, 1_000);
    let held = reserve(&budgets, "a").unwrap();
    let next = now() + TimeDelta::seconds(5);
    assert!(budgets.reserve(&ask("a"), &deployment("m"), next, Urgency::CanWait).is_err(), "nothing was granted there");
    held.settle(&charged(120));
    assert_eq!((stands(&budgets, 1, now()), stands(&budgets, 1, next)), ((120, 0), (0, 0)));
}

#[test]
fn calls_under_way_are_counted_under_a_budget_that_comes() {
    let budgets = Budgets::default();
    let under_way = reserve(&budgets, "a").unwrap();
    let usd = |team: &str| json!({"scope": {"team": team}, "limit_usd": "1", "window": "month"});
    budgets.turn_to(1, vec![row(1, usd("a")), row(2, usd("b"))]);
    assert_eq!(stands(&budgets, 1, now()), (TOKENS * 1_000_000_000_000, TOKENS * 1_000_000_000_000));
    assert_eq!(stands(&budgets, 2, now()), (0, 0));
    under_way.settle(&charged(3));
    assert_eq!(stands(&budgets, 1, now()), (3_000_000, 0));
}

#[test]
fn a_process_that_begins_afresh_forgets_what_others_booked() {
    let budgets = Budgets::default();
    budgets.turn_to(1, vec![row(1, json!({"limit_tokens": 1_000, "window": "day"}))]);
    grant(&budgets, 1, 1_000);
    let old = reserve(&budgets, "a").unwrap();
    budgets.start_over();
    assert!(reserve(&budgets, "a").is_err(), "its grants are Postgres's to know");
    old.settle(&charged(1));
    assert_eq!(stands(&budgets, 1, now()), (0, 0));
}

#[test]
fn without_a_price_only_tokens_can_be_held() {
    let unpriced = |budget: Value| {
        let budgets = Budgets::default();
        budgets.turn_to(1, vec![row(1, budget)]);
        grant(&budgets, 1, 1_000);
        let reserved = budgets.reserve(&ask("a"), &deployment("unknown"), now(), Urgency::CanWait);
        reserved.map(Reservation::release).map_err(|refusal| refusal.why)
    };
    assert_eq!(unpriced(json!({"limit_usd": "1", "window": "day"})), Err(Why::Unpriced));
    assert_eq!(unpriced(json!({"limit_usd": "1", "window": "day", "policy": "alert"})), Ok(()));
    assert_eq!(unpriced(json!({"limit_tokens": 1_000, "window": "day"})), Ok(()));
}

#[test]
fn a_soft_budget_is_exceeded_when_nothing_else_fits() {
    let budgets = Budgets::default();
    let soft = json!({"limit_tokens": 100, "window": "day", "soft": true, "policy": "downgrade"});
    budgets.turn_to(1, vec![row(1, soft)]);
    let reserve = |urgency| budgets.reserve(&ask("a"), &deployment("m"), now(), urgency);
    assert!(reserve(Urgency::Final).is_err_and(|refusal| refusal.is_final()));
    assert!(reserve(Urgency::AllowOverdraft).is_ok());
}

#[test]
fn a_changed_amount_takes_back_what_is_free_and_keeps_what_is_held() {
    let budgets = Budgets::default();
    let budget = |tokens: i64| json!({"limit_tokens": tokens, "window": "day"});
    budgets.turn_to(1, vec![row(1, budget(10_000))]);
    grant(&budgets, 1, 1_000);
    let held = reserve(&budgets, "a").unwrap();
    budgets.turn_to(2, vec![row(1, budget(500))]);
    assert!(reserve(&budgets, "a").is_err(), "granted under the old limit");
    assert_eq!(stands(&budgets, 1, now()), (TOKENS, TOKENS));
    held.settle(&charged(20));
    assert_eq!(stands(&budgets, 1, now()), (20, 0));
    budgets.turn_to(3, vec![row(1, json!({"limit_tokens": 500, "window": "day", "policy": "alert"}))]);
    assert!(reserve(&budgets, "a").is_ok(), "it holds up nothing now");
}

#[test]
fn a_changed_guard_or_max_cost_takes_back_what_is_free_of_its_part() {
    let budgets = Budgets::default();
    let guarded =
        |percent: u32| json!({"limit_tokens": 1_000, "window": "day", "guard": {"percent": percent, "per": "1h"}});
    budgets.turn_to(1, vec![row(1, guarded(80))]);
    grant(&budgets, 1, 1_000);
    let call = |max_cost| {
        let ask = ReservationRequest { job: Some(7), max_cost, ..ask("a") };
        budgets.reserve(&ask, &deployment("m"), now(), Urgency::CanWait)
    };
    let free = |amount: i128| {
        let mut sub_budgets = budgets.sub_budgets.all();
        sub_budgets.sort_by_key(|sub_budget| sub_budget.sub_budget.as_ref().map(|sub_budget| sub_budget.key.per_s));
        let sub_budget = sub_budgets.pop().unwrap();
        let mut state = sub_budget.state();
        let account = &mut state.cell(&sub_budget, now()).account;
        account.granted += amount;
        account.free()
    };
    call(None).unwrap_err();
    assert_eq!(free(800), 800);
    budgets.turn_to(2, vec![row(1, guarded(40))]);
    assert_eq!(free(0), 0, "granted under the old rate");
    let sub_budget = budgets.sub_budgets.of_job(7, 1_000);
    sub_budget.state().cell(&sub_budget, now()).account.granted += 1_000;
    let lower = budgets.sub_budgets.of_job(7, 500);
    assert_eq!(lower.state().cell(&lower, now()).account.free(), 0, "granted under the old max_cost");
}

mod guards;
mod proof;
mod rests;
mod slow;
