//! What a replica keeps of a budget while nobody calls.

use super::*;
use crate::budgets::collect_demand::{Occasion, collect_demand};

fn rule(budgets: &Budgets) -> Arc<super::super::rule::BudgetRule> {
    Arc::clone(&budgets.index().rules[0])
}

fn free(budgets: &Budgets) -> i128 {
    rule(budgets).state().cell(&rule(budgets), now()).account.free()
}

fn gathers(budgets: &Budgets, occasion: Occasion) {
    let (rule, mut pending) = (rule(budgets), Vec::new());
    collect_demand(&mut rule.state(), &rule, now(), occasion, &mut pending);
}

#[test]
fn the_first_call_after_a_pause_finds_what_it_needs_until_another_replica_is_short() {
    let budgets = Budgets::default();
    budgets.turn_to(1, vec![row(1, json!({"limit_tokens": 1_000_000, "window": "day"}))]);
    grant(&budgets, 1, 10_000);
    reserve(&budgets, "a").unwrap().settle(&charged(50));
    (0..20).for_each(|_| gathers(&budgets, Occasion::Tick));
    assert_eq!(free(&budgets), 2 * TOKENS);
    reserve(&budgets, "a").unwrap().release();

    budgets.asked_for(&[2]);
    gathers(&budgets, Occasion::Demand);
    assert_eq!(free(&budgets), 2 * TOKENS, "of another budget");
    budgets.asked_for(&[1]);
    gathers(&budgets, Occasion::Demand);
    assert_eq!(free(&budgets), 0);
}
