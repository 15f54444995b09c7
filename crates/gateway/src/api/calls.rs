//! A synchronous call, afterwards: its ledger rows, one per attempt. A stream carries no cost; this does.

use axum::{Json, extract::State};
use domain::{Money, money::Total};
use engine::admit::{Permission, Scope};
use serde::Serialize;
use serde_json::Value;

use crate::{App, auth::CurrentCaller, input::Id, problem::Problem};

#[derive(Serialize)]
pub struct CallView {
    request_id: String,
    /// Of all attempts; null when one of them has no price.
    cost_usd: Option<Total>,
    /// Ledger rows in the order of the attempts; money in pico-USD.
    attempts: Vec<Value>,
}

pub async fn get(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Id(request_id): Id<String>,
) -> Result<Json<CallView>, Problem> {
    let team = match caller.scope(Permission::ReadCalls) {
        Scope::Team(_) => Some(&*caller.team),
        Scope::All => None,
    };
    let mut conn = app.engine.pools.api.acquire().await?;
    let attempts = store::ledger::call(&mut conn, &request_id, team).await?;
    if attempts.is_empty() {
        let shown: String = request_id.chars().take(64).collect();
        return Err(Problem::not_found(format_args!(
            "call {shown:?}; a call's rows appear within a second of its end"
        )));
    }
    let charges: Option<Vec<Money>> = attempts.iter().map(|row| row["contracted_cost"].as_i64().map(Money)).collect();
    let cost_usd = charges.map(|charges| charges.into_iter().sum());
    Ok(Json(CallView { request_id, cost_usd, attempts }))
}
