//! CPU time of what a call's money goes through, in microseconds: held of all budgets that cover it, and settled; with 1,000 budgets
//! defined. `cargo run -p engine --example admission`

use std::sync::Arc;

use admission::{
    budgets::{Budgets, ReservationRequest, Urgency},
    catalog::{ActiveCatalog, ActiveDeployment},
};
use chrono::{DateTime, Utc};
use domain::{Catalog, Endpoint};
use serde_json::json;
use store::budget::BudgetRow;

const BUDGETS: i64 = 1_000;
const CALLS: u32 = 200_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let deployment = deployment()?;
    let now: DateTime<Utc> = "2026-11-23T12:00:00Z".parse()?;
    // Ten of each hundred of one team, of which a call is under three, and under three of everything.
    println!("us_per_call {:.2}", measure(&deployment, now, BUDGETS)?);
    println!("us_per_call_without_budgets {:.2}", measure(&deployment, now, 0)?);
    Ok(())
}

fn measure(
    deployment: &Arc<ActiveDeployment>,
    now: DateTime<Utc>,
    defined: i64,
) -> Result<f64, Box<dyn std::error::Error>> {
    let budgets = Budgets::default();
    let rows: Result<Vec<BudgetRow>, serde_json::Error> = (0..defined).map(row).collect();
    budgets.turn_to(1, rows?);
    let tags = "environment=prod,feature=f7,customer=c7,sprint=42".parse()?;
    let ask = ReservationRequest {
        team: "team-7".into(),
        key: "abcdefghijkl".into(),
        job: None,
        max_cost: None,
        tags: Arc::new(tags),
        endpoint: Endpoint::ChatCompletions,
        est_in: 200,
        max_out: Some(500),
        is_oversized: false,
    };
    let calls = |count: u32| {
        for _ in 0..count {
            // Released, it goes the way of a settlement without a ledger row.
            match budgets.reserve(&ask, deployment, now, Urgency::Final) {
                Ok(reservation) => reservation.release(),
                Err(refusal) => return Err(refusal.to_string()),
            }
        }
        Ok(())
    };
    calls(1_000)?;
    let before = cpu_ns()?;
    calls(CALLS)?;
    Ok((cpu_ns()? - before) as f64 / 1e3 / f64::from(CALLS))
}

/// Budgets of teams, of features of teams, of customers and of everything; nothing is held up here, for nothing is granted.
fn row(n: i64) -> Result<BudgetRow, serde_json::Error> {
    let (team, feature) = (format!("team-{}", n % 100), format!("f{}", n % 100));
    let scope = match n % 10 {
        0..4 => json!({ "team": team }),
        4..7 => json!({ "team": team, "feature": feature }),
        7 => json!({ "customer": format!("c{}", n % 100) }),
        8 => json!({ "team": team, "provider": "openai", "tags": {"sprint": "42"} }),
        _ if n < 30 => json!({}),
        _ => json!({ "customer": format!("c{n}"), "team": team }),
    };
    let budget = serde_json::from_value(json!({
        "scope": scope, "limit_usd": "1000", "window": "month", "time_zone": "Europe/Berlin", "policy": "alert",
    }))?;
    Ok(BudgetRow { budget_id: n, name: format!("b{n}"), budget, is_file_managed: true, is_counted: true })
}

fn deployment() -> Result<Arc<ActiveDeployment>, Box<dyn std::error::Error>> {
    let catalog: Catalog = serde_json::from_value(json!({
        "deployments": {"d": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "gpt-4o"}},
        "routes": {"r": {"deployments": ["d"]}},
    }))?;
    let active = ActiveCatalog::build(1, catalog)?;
    Ok(Arc::clone(active.deployment("d").ok_or("it was declared")?))
}

/// CPU time of this thread, user and system, in nanoseconds.
fn cpu_ns() -> Result<u64, Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(stat.split(' ').next().unwrap_or_default().parse()?)
}
