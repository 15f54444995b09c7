//! What a quote says.

use chrono::{DateTime, Utc};
use domain::{Lane, money::Total};
use serde::Serialize;

use super::{budgets::BudgetQuote, route::RouteQuote, sums::Sums};
use crate::{
    submit::Plan,
    usual::{self, Basis},
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Quote {
    pub lane: Lane,
    pub requests: i64,
    /// Of the upload, unzipped.
    pub bytes: u64,
    pub est_input_tokens: i64,
    pub expected_output_tokens: i64,
    /// If its calls are like those of late, each made once by the first deployment of its route; absent when a price is missing.
    pub expected_cost_usd: Option<Total>,
    /// What would be reserved for all of it: no call costs more, whichever deployment serves it. A request that is tried again
    /// may be charged again.
    pub worst_cost_usd: Option<Total>,
    /// Absent when it cannot be told how long calls take.
    pub duration_s: Option<DurationRange>,
    pub routes: Vec<RouteQuote>,
    /// How long it would take in the other lanes that the key may use.
    pub lanes: Vec<LaneQuote>,
    /// What it would take of the budgets that it is under.
    pub budgets: Vec<BudgetQuote>,
    pub warnings: Vec<String>,
}

/// Seconds from the start to the last result: with all that the limits leave to it, and with what is its fair share beside the
/// teams that have work now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DurationRange {
    pub low: u64,
    pub high: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LaneQuote {
    pub lane: Lane,
    pub duration_s: Option<DurationRange>,
}

/// What the submitter should know before.
pub fn warnings(plan: &Plan, now: DateTime<Utc>, sums: &[Sums], duration: Option<DurationRange>) -> Vec<String> {
    let mut warnings = Vec::new();
    for route in sums {
        let model = &route.model;
        if let Some(deployment) = route.unpriced() {
            warnings.push(format!("{model}: deployment {deployment} has no price, so what it costs cannot be told."));
        }
        if route.unbounded > 0 {
            let (n, most) = (route.unbounded, pricing::DEFAULT_MAX_OUTPUT);
            warnings.push(format!(
                "{model}: {n} requests set no maximum of output tokens; {most} are reserved for each. Set max_tokens."
            ));
        }
        if route.basis == Basis::Assumed && route.has_output() {
            let assumed = usual::ASSUMED_OUTPUT;
            warnings.push(format!(
                "{model}: nobody called it of late; {assumed} output tokens a request were assumed, or its maximum."
            ));
        }
        if let Some((deployment, saves)) = route.cheapest() {
            warnings.push(format!("{model}: deployment {deployment} would save {saves} USD."));
        }
    }
    match (duration, plan.deadline, plan.start_at) {
        (None, ..) => warnings.push("How long it takes cannot be told: no slots, or no calls of late.".to_owned()),
        (Some(duration), Some(deadline), start) => {
            let from = start.unwrap_or(now).max(now);
            let left = (deadline - from).num_seconds().max(0) as u64;
            if left < duration.low {
                warnings.push(format!("The deadline comes too early: {left} s from its start, and it takes {} s at least; what is left expires.", duration.low));
            } else if left < duration.high {
                warnings.push(format!(
                    "The deadline may come too early: {left} s from its start, and it may take {} s.",
                    duration.high
                ));
            }
        }
        _ => {}
    }
    warnings
}
