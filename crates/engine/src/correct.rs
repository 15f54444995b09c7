//! Corrects a charge in the ledger that was booked at its worst case or with a wrong price. The row itself never
//! changes. A correction is a row of its own, on the day of what it corrects and in the same windows, so reports,
//! budgets, guards and the job's cost follow it exactly.

mod figures;

use std::collections::BTreeMap;

use admission::{
    budgets::{self, RowsOf},
    catalog::ActiveCatalog,
};
use domain::{Action, AttemptId, LedgerRow, Money, Object, Usage, ledger::RecordKind};
use pricing::{Charge, Terms};
use serde_json::json;
use store::{
    PgConnection,
    audit::{self, Change},
    job::Scope,
    settlement::Tally,
};

use self::figures::Figures;
use crate::Engine;

/// More of one attempt would be a loop, not a correction.
const MOST: usize = 100;

/// What the call is charged from now on, with all that was booked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewCharge {
    /// So much; its tokens stay as they are.
    Cost(Money),
    /// These tokens, at the price of its deployment when it was made.
    Usage(Usage),
    /// Nothing, and no tokens.
    Void,
}

/// The attempt to be corrected, the new charge, and the reason.
#[derive(Debug, Clone, Copy)]
pub struct Correction<'a> {
    /// An attempt's id, or the id of a synchronous call with one attempt.
    pub of: &'a str,
    pub wanted: NewCharge,
    /// For the audit.
    pub reason: Option<&'a str>,
    /// The key that asks.
    pub by: &'a str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corrected {
    pub attempt_id: AttemptId,
    /// The row that was booked; `None`: nothing was wrong.
    pub correction_id: Option<AttemptId>,
    /// What was booked before, with earlier corrections; `None`: it had no price.
    pub before: Option<Money>,
    pub after: Option<Money>,
}

#[derive(Debug, thiserror::Error)]
pub enum CorrectError {
    #[error(
        "{0:?} is neither an attempt's id nor that of a synchronous call; a job's attempts are in the lake's column attempt_id"
    )]
    BadId(String),
    #[error("there is no attempt {0}")]
    NotFound(String),
    #[error("the call {call} has {} attempts: name one of {}", .attempts.len(), listed(.attempts))]
    Several { call: String, attempts: Vec<AttemptId> },
    #[error("{0} is itself a correction; correct the attempt {1}")]
    IsCorrection(AttemptId, AttemptId),
    #[error("the price of {deployment} for {model} is not known any more; give the cost instead")]
    NoPrice { deployment: String, model: String },
    #[error("{1}")]
    Param(&'static str, String),
    #[error("the attempt {0} was corrected {MOST} times already")]
    TooOften(AttemptId),
    #[error("the database cannot be reached")]
    Unavailable(#[from] store::Error),
}

fn listed(attempts: &[AttemptId]) -> String {
    attempts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Books the difference between the ledger's sum for the attempt and the wanted charge. Idempotent: a repeated
/// correction books nothing.
pub async fn correct(engine: &Engine, correction: Correction<'_>) -> Result<Corrected, CorrectError> {
    let Correction { wanted, reason, by, .. } = correction;
    let mut tx = engine.pools.api.begin().await?;
    let attempt_id = resolve(&mut tx, correction.of).await?;
    store::ledger::lock_correction(&mut tx, attempt_id).await?;
    let Some(row) = store::ledger::row(&mut tx, attempt_id).await? else {
        return Err(CorrectError::NotFound(attempt_id.to_string()));
    };
    if let Some(of) = row.corrects_attempt_id {
        return Err(CorrectError::IsCorrection(attempt_id, of));
    }
    let earlier = store::ledger::corrections(&mut tx, attempt_id, row.completed_at).await?;
    let booked = earlier.iter().map(Figures::of).fold(Figures::of(&row), |sum, figures| sum.plus(&figures));
    let target = target(&engine.catalog.get(), &row, &booked, wanted)?;
    let (before, after) = (booked.contracted_cost.map(Money), target.contracted_cost.map(Money));
    if booked.is_as(&target) {
        return Ok(Corrected { attempt_id, correction_id: None, before, after });
    }
    let number = u8::try_from(earlier.len() + 1).ok().filter(|number| usize::from(*number) <= MOST);
    let number = number.ok_or(CorrectError::TooOften(attempt_id))?;
    let delta = adjustment(&row, &target.minus(&booked), store::ledger::correction_id(attempt_id, number));
    book(engine, &mut tx, &row, &delta).await?;
    let details = json!({
        "request": row.request_id, "deployment": row.deployment, "team": row.team,
        "from": before, "to": after, "reason": reason,
    });
    let object = Object::Attempt(attempt_id);
    audit::record_change(&mut tx, Change { object, key_id: Some(by), action: Action::Correct, details }).await?;
    // What comes back may do for requests that wait.
    store::budget::wake_blocked(&mut tx).await?;
    tx.commit().await?;
    engine.control.budgets.freed();
    engine.work.notify();
    Ok(Corrected { attempt_id, correction_id: Some(delta.attempt_id), before, after })
}

async fn resolve(conn: &mut PgConnection, of: &str) -> Result<AttemptId, CorrectError> {
    if let Ok(id) = of.parse::<AttemptId>() {
        return Ok(id);
    }
    let brief = || of.chars().take(64).collect::<String>();
    if !of.starts_with("req_") || of.contains('\0') {
        return Err(CorrectError::BadId(brief()));
    }
    let rows = store::ledger::call(conn, of, None).await?;
    let is_original = |row: &&serde_json::Value| row["corrects_attempt_id"].is_null();
    let attempts: Vec<AttemptId> =
        rows.iter().filter(is_original).filter_map(|row| row["attempt_id"].as_str()?.parse().ok()).collect();
    match attempts[..] {
        [] => Err(CorrectError::BadId(brief())),
        [one] => Ok(one),
        _ => Err(CorrectError::Several { call: brief(), attempts }),
    }
}

/// What the ledger should say of the attempt, all rows together.
fn target(
    catalog: &ActiveCatalog,
    row: &LedgerRow,
    booked: &Figures,
    wanted: NewCharge,
) -> Result<Figures, CorrectError> {
    match wanted {
        NewCharge::Void => Ok(booked.voided()),
        NewCharge::Cost(cost) => Ok(booked.with_cost(cost.pico())),
        NewCharge::Usage(usage) => {
            if usage.prompt_total().is_none() {
                let reason = "a usage has at least one count of input tokens, such as input_uncached".to_owned();
                return Err(CorrectError::Param("usage", reason));
            }
            Ok(Figures::of_usage(&usage, &charge(catalog, row, &usage)?))
        }
    }
}

/// At the price that holds for the row's model when it was called.
fn charge(catalog: &ActiveCatalog, row: &LedgerRow, usage: &Usage) -> Result<Charge, CorrectError> {
    let no_price = || CorrectError::NoPrice { deployment: row.deployment.clone(), model: row.model_billed.clone() };
    let deployment = catalog.deployment(&row.deployment).ok_or_else(no_price)?;
    let terms = Terms { service_tier: row.service_tier.as_deref(), ..Terms::sync() };
    let spec = &deployment.spec;
    let model = catalog.prices.resolve_billed(spec.provider_name(), &spec.model, &row.model_billed);
    let price = model.and_then(|model| model.at(row.requested_at, terms)).map_err(|_| no_price())?;
    let charge = pricing::charge(&price, usage).map_err(|error| CorrectError::Param("usage", error.to_string()))?;
    // A class of its tokens has no price.
    if charge.contracted_cost.is_none() { Err(no_price()) } else { Ok(charge) }
}

/// The row that adds the difference.
fn adjustment(row: &LedgerRow, delta: &Figures, id: AttemptId) -> LedgerRow {
    let mut adjustment = LedgerRow {
        attempt_id: id,
        corrects_attempt_id: Some(row.attempt_id),
        record_kind: RecordKind::Adjustment.as_str().to_owned(),
        is_final: false,
        queue_ms: None,
        ttft_ms: None,
        latency_ms: None,
        reserved: None,
        ..row.clone()
    };
    delta.put(&mut adjustment);
    adjustment
}

async fn book(engine: &Engine, conn: &mut PgConnection, row: &LedgerRow, delta: &LedgerRow) -> store::Result<()> {
    if let Some(revision) = store::ledger::insert(conn, &[delta]).await? {
        let rows = std::iter::once(delta);
        budgets::book_rows(conn, &engine.control.budgets, rows, revision, RowsOf::Others).await?;
    }
    let Some(job_id) = row.job_id else { return Ok(()) };
    // Its counts are gone with it.
    if store::job::get(conn, Scope::All, domain::JobId(job_id)).await?.is_none() {
        return Ok(());
    }
    let cost_pico = i128::from(delta.contracted_cost.unwrap_or(0));
    let is_priced_now = row.contracted_cost.is_none() && delta.contracted_cost.is_some();
    let tally = Tally { cost_pico, unpriced: -i64::from(is_priced_now), ..Tally::default() };
    store::settlement::add_tallies(conn, engine.worker_id, &BTreeMap::from([(job_id, tally)])).await
}

#[cfg(test)]
mod tests;
