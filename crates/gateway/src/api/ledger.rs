//! Corrections of charges in the ledger.

use axum::{Json, body::Body, extract::State};
use domain::{Money, Usage, money::Total};
use engine::correct::{CorrectError, Corrected, Correction, NewCharge, correct};
use serde::{Deserialize, Serialize};
use tracing::info;
use uuid::Uuid;

use crate::{
    App,
    auth::CurrentCaller,
    input::{Id, read_json},
    problem::{Kind, Problem},
};

const LONGEST_REASON: usize = 500;

/// One of the first three.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewCorrection {
    /// What the attempt did cost, in USD.
    cost_usd: Option<Total>,
    /// The tokens that it used.
    usage: Option<Tokens>,
    /// It cost nothing.
    void: Option<bool>,
    /// For the audit.
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tokens {
    input_uncached: Option<u32>,
    cache_read: Option<u32>,
    cache_write_5m: Option<u32>,
    cache_write_1h: Option<u32>,
    input_audio: Option<u32>,
    input_image: Option<u32>,
    output_text: Option<u32>,
    output_reasoning: Option<u32>,
    output_audio: Option<u32>,
}

#[derive(Serialize)]
pub struct CorrectedView {
    attempt_id: Uuid,
    /// The ledger row that was booked; null: the ledger said this already.
    correction_id: Option<Uuid>,
    /// With earlier corrections; null: it had no price.
    cost_was_usd: Option<Money>,
    cost_usd: Option<Money>,
}

pub async fn post(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Id(attempt): Id<String>,
    body: Body,
) -> Result<Json<CorrectedView>, Problem> {
    let NewCorrection { cost_usd, usage, void, reason } = read_json(body).await?;
    let wanted = wanted(cost_usd, usage, void)?;
    if let Some(reason) = &reason
        && (reason.chars().count() > LONGEST_REASON || reason.chars().any(char::is_control))
    {
        let detail = format_args!("reason has at most {LONGEST_REASON} characters, none of them control characters.");
        return Err(Problem::new(Kind::Invalid, detail).with("param", "reason"));
    }
    let correction = Correction { of: &attempt, wanted, reason: reason.as_deref(), by: &caller.key_id };
    let Corrected { attempt_id, correction_id, before, after } =
        correct(&app.engine, correction).await.map_err(refused)?;
    info!(key.id = %caller.key_id, attempt.id = %attempt_id, changed = correction_id.is_some(), "A charge was corrected");
    Ok(Json(CorrectedView { attempt_id, correction_id, cost_was_usd: before, cost_usd: after }))
}

fn wanted(cost_usd: Option<Total>, usage: Option<Tokens>, void: Option<bool>) -> Result<NewCharge, Problem> {
    match (cost_usd, usage, void.unwrap_or(false)) {
        (Some(cost), None, false) => match Money::from_pico(cost.0) {
            Ok(cost) if cost >= Money::ZERO => Ok(NewCharge::Cost(cost)),
            Ok(_) => {
                let detail = format_args!("cost_usd is {cost}; it is what the attempt did cost in all, 0 or more.");
                Err(Problem::new(Kind::Invalid, detail).with("param", "cost_usd"))
            }
            Err(error) => {
                Err(Problem::new(Kind::Invalid, format_args!("cost_usd: {error}.")).with("param", "cost_usd"))
            }
        },
        (None, Some(tokens), false) => Ok(NewCharge::Usage(tokens.into())),
        (None, None, true) => Ok(NewCharge::Void),
        _ => Err(Problem::new(Kind::Invalid, "Give one of cost_usd, usage and void: true.")),
    }
}

impl From<Tokens> for Usage {
    fn from(tokens: Tokens) -> Self {
        let count = |count: Option<u32>| count.map(i64::from);
        Self {
            input_uncached: count(tokens.input_uncached),
            cache_read: count(tokens.cache_read),
            cache_write_5m: count(tokens.cache_write_5m),
            cache_write_1h: count(tokens.cache_write_1h),
            input_audio: count(tokens.input_audio),
            input_image: count(tokens.input_image),
            output_text: count(tokens.output_text),
            output_reasoning: count(tokens.output_reasoning),
            output_audio: count(tokens.output_audio),
            source: domain::UsageSource::Provider,
        }
    }
}

fn refused(error: CorrectError) -> Problem {
    match error {
        CorrectError::NotFound(id) => Problem::not_found(format_args!("attempt {id}")),
        CorrectError::BadId(_) => Problem::new(Kind::NotFound, format_args!("{error}.")),
        CorrectError::Param(param, _) => Problem::new(Kind::Invalid, format_args!("{error}.")).with("param", param),
        CorrectError::Several { ref attempts, .. } => {
            let attempts: Vec<String> = attempts.iter().map(ToString::to_string).collect();
            Problem::new(Kind::Conflict, format_args!("{error}.")).with("attempts", attempts)
        }
        CorrectError::IsCorrection(..) | CorrectError::NoPrice { .. } | CorrectError::TooOften(_) => {
            Problem::new(Kind::Conflict, format_args!("{error}."))
        }
        CorrectError::Unavailable(error) => error.into(),
    }
}
