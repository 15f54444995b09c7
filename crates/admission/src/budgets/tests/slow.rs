//! Jobs of calls that last, through hours of a guard: who wants more than it lets him is paused, and nobody else is.

use std::collections::{BTreeMap, VecDeque};

use store::budget::{Locked, Taken};

use super::*;
use crate::budgets::{
    collect_demand::Occasion,
    collect_demand::collect_demand,
    grant_round::{answer, refused},
};

/// In tokens within an hour: twelve hundred calls that cost half of what was held for them.
const RATE: i128 = 120_000;
const CHARGED: i64 = 100;
const JOB: i64 = 7;

/// What Postgres has of the part's cells: granted and spent.
type Cells = BTreeMap<DateTime<Utc>, (i128, i128)>;

/// When the job is paused, in seconds, whose calls last so long, in so many slots.
fn paused_after(lasts: i64, slots: usize) -> Option<i64> {
    let budgets = Budgets::default();
    let guard = json!({"percent": 10, "per": "1h"});
    budgets.turn_to(1, vec![row(1, json!({"limit_tokens": 1_200_000, "window": "day", "guard": guard}))]);
    grant(&budgets, 1, 1_200_000);
    let (deployment, ask) = (deployment("m"), ReservationRequest { job: Some(JOB), ..ask("a") });
    let mut under_way: VecDeque<(i64, Reservation)> = VecDeque::new();
    let mut cells = Cells::new();
    for second in (0..5_400).step_by(5) {
        let at = now() + TimeDelta::seconds(second);
        while under_way.front().is_some_and(|(ends, _)| *ends <= second) {
            let (_, call) = under_way.pop_front().unwrap();
            let sub_budget = budgets.sub_budgets.all().remove(0);
            cells.entry(sub_budget.span(call.at().unwrap()).start).or_default().1 += i128::from(CHARGED);
            call.settle(&charged(CHARGED));
        }
        for occasion in [Occasion::Demand, Occasion::Tick] {
            while under_way.len() < slots {
                match budgets.reserve(&ask, &deployment, at, Urgency::CanWait) {
                    Ok(call) => under_way.push_back((second + lasts, call)),
                    Err(refusal) => {
                        budgets.missed(&refusal, JOB, JOB, slots - under_way.len());
                        break;
                    }
                }
            }
            exchange(&budgets, &mut cells, at, occasion);
            let taken: i128 = cells.values().map(|(granted, spent)| *granted.max(spent)).sum();
            assert!(second >= 3_600 || taken <= RATE, "{taken} after {second} seconds");
        }
        if !budgets.tripped.take().is_empty() {
            return Some(second);
        }
    }
    None
}

/// As with Postgres: all is counted before anything is written.
fn exchange(budgets: &Budgets, cells: &mut Cells, at: DateTime<Utc>, occasion: Occasion) {
    let sub_budget = budgets.sub_budgets.all().remove(0);
    sub_budget.sub_budget.as_ref().unwrap().known_as(2);
    let mut state = sub_budget.state();
    let mut pending = Vec::new();
    collect_demand(&mut state, &sub_budget, at, occasion, &mut pending);
    let before = cells.clone();
    for one in pending {
        let mut taken = Taken { others: 0, mine: 0, spent: 0, unproven: 0 };
        for (cell, (granted, spent)) in before.range(one.ask.since..=one.ask.until) {
            let of = if *cell == one.ask.cell { &mut taken.mine } else { &mut taken.others };
            *of += granted.max(spent);
            taken.spent += spent;
        }
        let locked = Locked { budget_id: 2, cap: RATE, is_open: true };
        let (one, after, view) = answer(one, locked, taken, 1);
        cells.entry(one.ask.cell).or_default().0 = after.granted.max(after.used);
        state.take_in(&one, &after, view);
        for (job, refusal) in refused(&mut state, &one, &view, at) {
            budgets.tripped.push(job, refusal);
        }
    }
}

#[test]
fn who_wants_three_times_his_rate_is_paused_whatever_his_calls_last() {
    for lasts in [5, 60, 180, 360, 600, 1_200] {
        let paused = paused_after(lasts, lasts as usize);
        assert!(paused.is_some_and(|second| second < 3_600), "calls of {lasts} s: {paused:?}");
    }
}

#[test]
fn who_keeps_to_his_rate_is_not() {
    for lasts in [5, 60, 180, 360] {
        let slots = lasts as usize * 4 / 15;
        assert_eq!(paused_after(lasts, slots), None, "calls of {lasts} s");
    }
}
