//! What guards hold back, and whom they let pass.

use super::*;

/// 40 % of 1,000 tokens: two calls.
fn guarded(by: &str) -> Budgets {
    let budgets = Budgets::default();
    let budget = json!({"limit_tokens": 1_000, "window": "day", "guard": {"percent": 40, "per": "1h", "by": by}});
    budgets.turn_to(1, vec![row(1, budget)]);
    grant(&budgets, 1, 1_000);
    budgets
}

fn call(budgets: &Budgets, job: Option<i64>) -> Result<Reservation, Refusal> {
    budgets.reserve(&ReservationRequest { job, ..ask("a") }, &deployment("m"), now(), Urgency::CanWait)
}

/// Grants the only part so much, and tells what it holds.
fn grant_part(budgets: &Budgets, amount: i128) -> (i128, i128) {
    let sub_budget = budgets.sub_budgets.all().pop().unwrap();
    let mut state = sub_budget.state();
    let account = &mut state.cell(&sub_budget, now()).account;
    account.granted += amount;
    (account.used, account.reserved)
}

#[test]
fn a_job_is_held_by_its_part_and_of_the_whole_or_of_neither() {
    let budgets = guarded("job");
    let refusal = call(&budgets, Some(7)).unwrap_err();
    assert!(refusal.rule.sub_budget.is_some() && !refusal.is_final(), "its part was granted nothing yet");
    assert_eq!(stands(&budgets, 1, now()), (0, 0), "of the whole it holds nothing either");
    assert_eq!(refusal.obstacle().reason, domain::waits::WaitReason::Guard);
    grant_part(&budgets, 400);
    let (first, second) = (call(&budgets, Some(7)).unwrap(), call(&budgets, Some(7)).unwrap());
    assert!(call(&budgets, Some(7)).is_err());
    assert!(call(&budgets, None).is_ok(), "a synchronous call is no job's");
    first.settle(&charged(50));
    second.release();
    assert_eq!(grant_part(&budgets, 0), (50, 0));
}

#[test]
fn synchronous_calls_pass_a_guard_and_count_for_it() {
    for by in ["feature", "team"] {
        let budgets = guarded(by);
        let held = call(&budgets, None).unwrap();
        assert_eq!(grant_part(&budgets, 400), (TOKENS, TOKENS), "{by}");
        let _second = call(&budgets, Some(7)).unwrap();
        assert!(call(&budgets, Some(8)).is_err(), "both were taken");
        held.settle(&charged(0));
        assert!(call(&budgets, Some(8)).is_ok());
    }
}

#[test]
fn an_approved_job_passes_until_its_time_is_over() {
    let budgets = guarded("job");
    call(&budgets, Some(7)).unwrap_err();
    let sub_budget = budgets.sub_budgets.all().pop().unwrap();
    sub_budget.state().lifted.insert(7, now() + TimeDelta::minutes(1));
    let passed = call(&budgets, Some(7)).unwrap();
    assert_eq!(grant_part(&budgets, 0), (TOKENS, TOKENS), "it counts");
    passed.release();
    sub_budget.state().lifted.insert(7, now());
    call(&budgets, Some(7)).unwrap_err();
}

#[test]
fn calls_under_way_are_counted_under_a_guard_that_comes() {
    let budgets = Budgets::default();
    let budget = |guard: Value| json!({"limit_tokens": 1_000, "window": "day", "guard": guard});
    budgets.turn_to(1, vec![row(1, budget(Value::Null))]);
    grant(&budgets, 1, 1_000);
    let under_way = call(&budgets, Some(7)).unwrap();
    budgets.turn_to(2, vec![row(1, budget(json!({"percent": 40, "per": "1h"})))]);
    assert_eq!(grant_part(&budgets, 0), (TOKENS, TOKENS));
    budgets.turn_to(3, vec![row(1, budget(json!({"percent": 50, "per": "1h"})))]);
    assert_eq!(grant_part(&budgets, 0), (TOKENS, TOKENS), "only the amount is another");
    under_way.settle(&charged(9));
    assert_eq!((grant_part(&budgets, 0), stands(&budgets, 1, now())), ((9, 0), (9, 0)));
}
