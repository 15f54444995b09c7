//! Budgets: how each stands, and declaring those that the file does not.

use admission::budgets::{self, BudgetError, BudgetStanding, InForce};
use axum::{
    Json,
    body::Body,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use domain::{
    Budget,
    budget::{BadBudget, Policy, Unit},
};
use serde::{Deserialize, Serialize};
use store::budget::{Follower, Over, OverCall};
use tracing::info;
use uuid::Uuid;

use crate::{
    App,
    auth::CurrentCaller,
    input::{Id, Params, read_json},
    page::Page,
    problem::{Kind, Problem},
};

/// Amounts are decimal text: USD, or whole tokens.
#[derive(Serialize)]
pub struct BudgetView {
    name: String,
    #[serde(flatten)]
    budget: Budget,
    managed_by: &'static str,
    unit: Unit,
    /// As declared, or the default.
    policy: Policy,
    /// The sum of the ledger's rows.
    spent: String,
    /// Reserved for calls in flight.
    reserved: String,
    /// Reserved for calls of unknown outcome: it counts as spent until the window ends.
    unproven: String,
    left: String,
    /// Of the limit, everything that is not left.
    used_percent: f64,
    /// Spent in an hour, by the last one.
    burn_per_hour: String,
    /// When it is used up at this rate; null: not before it resets.
    exhausted_at: Option<DateTime<Utc>>,
    window_start: DateTime<Utc>,
    /// When there is money again at the earliest; of a rolling window, when it next moves.
    resets_at: Option<DateTime<Utc>>,
    /// What was spent before it was declared is counted; until then nothing fits into it.
    counted: bool,
    /// The ledger's own sum, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<VerifiedView>,
    /// How far it holds; of one budget, and after it was set.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_force: Option<InForceView>,
}

#[derive(Serialize)]
pub struct InForceView {
    /// All replicas that are alive hold it: none starts a call that does not fit.
    everywhere: bool,
    /// Since when, at the latest.
    since: Option<DateTime<Utc>>,
    replicas: Vec<ReplicaView>,
}

#[derive(Serialize)]
struct ReplicaView {
    worker_id: String,
    host: String,
    holds: bool,
    since: Option<DateTime<Utc>>,
}

impl From<InForce> for InForceView {
    fn from(found: InForce) -> Self {
        let (everywhere, since) = (found.is_everywhere(), found.since());
        let replica = |one: Follower| ReplicaView {
            worker_id: one.worker_id.to_string(),
            host: one.host,
            holds: one.follows,
            since: one.since,
        };
        Self { everywhere, since, replicas: found.replicas.into_iter().map(replica).collect() }
    }
}

#[derive(Serialize)]
pub struct VerifiedView {
    ledger: String,
    counted: String,
    equal: bool,
    /// What the ledger has beyond the limit; null: nothing.
    over: Option<OverView>,
}

#[derive(Serialize)]
pub struct OverView {
    by: String,
    /// How many calls were booked beyond the limit, or took the budget there.
    count: i64,
    /// The largest of them.
    calls: Vec<OverCallView>,
}

#[derive(Serialize)]
struct OverCallView {
    request_id: String,
    attempt_id: Uuid,
    team: String,
    deployment: String,
    recorded_at: DateTime<Utc>,
    charged: String,
    /// What was held for it before it was made, in USD; null of tokens, or where nothing was.
    held: Option<String>,
}

impl OverView {
    fn of(over: Over, by: i128, unit: Unit) -> Self {
        let call = |one: OverCall| OverCallView {
            request_id: one.request_id,
            attempt_id: one.attempt_id,
            team: one.team,
            deployment: one.deployment,
            recorded_at: one.recorded_at,
            charged: unit.text(one.amount),
            held: one.held.map(|held| unit.text(held)),
        };
        Self { by: unit.text(by), count: over.count, calls: over.calls.into_iter().map(call).collect() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListParams {
    /// Add up the ledger too, which takes as long as the window has rows.
    #[serde(default)]
    verify: bool,
}

pub async fn list(
    State(app): State<App>,
    Params(wanted): Params<ListParams>,
) -> Result<Json<Page<BudgetView>>, Problem> {
    let all = if wanted.verify {
        budgets::verify(&app.engine.control).await?
    } else {
        budgets::show(&app.engine.control).await?
    };
    Ok(Json(Page { data: all.into_iter().map(BudgetView::of).collect(), next: None }))
}

pub async fn get(State(app): State<App>, Id(name): Id<String>) -> Result<Json<BudgetView>, Problem> {
    let mut view = one(&app, &name).await?.ok_or_else(|| not_found(&name))?;
    view.in_force = budgets::standing_of(&app.engine.control, &name).await?.map(InForceView::from);
    Ok(Json(view))
}

pub async fn put(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Id(name): Id<String>,
    body: Body,
) -> Result<Json<BudgetView>, Problem> {
    let budget: Budget = read_json(body).await?;
    let in_force = budgets::set(&app.engine.control, &name, &budget, &caller.key_id).await.map_err(refused)?;
    info!(key.id = %caller.key_id, budget = name, everywhere = in_force.is_everywhere(), "A budget was set");
    let mut view = one(&app, &name).await?.ok_or_else(|| not_found(&name))?;
    view.in_force = Some(in_force.into());
    Ok(Json(view))
}

/// 204 when no replica enforces it any more; 202, with those that still do, if some did not answer in time.
pub async fn remove(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Id(name): Id<String>,
) -> Result<Response, Problem> {
    let in_force = budgets::remove(&app.engine.control, &name, &caller.key_id).await.map_err(refused)?;
    info!(key.id = %caller.key_id, budget = name, everywhere = in_force.is_everywhere(), "A budget was removed");
    match in_force.is_everywhere() {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Ok((StatusCode::ACCEPTED, Json(InForceView::from(in_force))).into_response()),
    }
}

async fn one(app: &App, name: &str) -> Result<Option<BudgetView>, Problem> {
    Ok(budgets::show(&app.engine.control).await?.into_iter().find(|shown| shown.row.name == name).map(BudgetView::of))
}

fn not_found(name: &str) -> Problem {
    Problem::not_found(format_args!("budget {:?}", name.chars().take(64).collect::<String>()))
}

impl BudgetView {
    fn of(shown: BudgetStanding) -> Self {
        let unit = shown.unit();
        let text = |amount: i128| unit.text(amount);
        let BudgetStanding { row, standing, left, window_start, resets_at, burn, exhausted_at, verified, over, .. } =
            shown;
        let limit = row.budget.cap();
        let cap = row.budget.cap().max(1);
        let tenths = (cap - left).max(0).saturating_mul(1000) / cap;
        Self {
            unit,
            policy: row.budget.policy(),
            // In the document where it was declared; here in any case.
            budget: Budget { policy: None, ..row.budget },
            name: row.name,
            managed_by: if row.is_file_managed { "file" } else { "api" },
            spent: text(standing.spent),
            reserved: text(standing.reserved),
            unproven: text(standing.unproven),
            left: text(left),
            used_percent: tenths as f64 / 10.0,
            burn_per_hour: text(burn),
            exhausted_at,
            window_start,
            resets_at,
            counted: row.is_counted,
            verified: verified.map(|sums| VerifiedView {
                ledger: text(sums.ledger),
                counted: text(sums.counted),
                equal: sums.ledger == sums.counted,
                over: over.map(|over| OverView::of(over, sums.ledger - limit, unit)),
            }),
            in_force: None,
        }
    }
}

fn refused(error: BudgetError) -> Problem {
    match error {
        BudgetError::FileManaged(_) => Problem::new(Kind::ManagedByFile, error),
        BudgetError::NotFound(name) => not_found(&name),
        BudgetError::Bad(BadBudget::Value { key, .. }) => Problem::new(Kind::Invalid, error).with("param", key),
        BudgetError::Bad(BadBudget::Name(_)) => Problem::new(Kind::Invalid, error).with("param", "name"),
        BudgetError::Bad(BadBudget::Tags(_)) => Problem::new(Kind::Invalid, error).with("param", "scope"),
        BudgetError::Bad(BadBudget::Unknown { dimension, .. }) => {
            Problem::new(Kind::Invalid, error).with("param", format!("scope.{dimension}"))
        }
        BudgetError::Bad(BadBudget::Duplicate(ref of)) => {
            let of = of.clone();
            Problem::new(Kind::Conflict, error).with("budget", of)
        }
        BudgetError::Unavailable(error) => error.into(),
    }
}
