//! The most that one call can cost and use at a deployment: what is reserved of budgets before it starts.

use chrono::{DateTime, Utc};
use domain::{Endpoint, Money, line::estimate_tokens};
use pricing::{DEFAULT_MAX_OUTPUT, Price, PricedModel, Terms};

use crate::catalog::ActiveDeployment;

/// Input tokens that a provider may count beyond those of the caller's body, which asks for no usage and has another model's name.
fn added_input(deployment: &ActiveDeployment) -> i64 {
    16 + estimate_tokens(deployment.spec.model.len())
}

/// What a call may cost at most; `None` when no price is known.
pub fn cost(deployment: &ActiveDeployment, est_in: i64, max_out: Option<i64>, at: DateTime<Utc>) -> Option<Money> {
    Some(cost_at(&price(deployment, at)?, deployment, est_in, max_out))
}

/// The deployment's price at a moment, for many calls of [`cost_at`].
pub fn price(deployment: &ActiveDeployment, at: DateTime<Utc>) -> Option<Price> {
    deployment.price.as_ref()?.at(at, Terms::sync()).ok()
}

/// What a call may cost at most, at the deployment's `price`.
pub fn cost_at(price: &Price, deployment: &ActiveDeployment, est_in: i64, max_out: Option<i64>) -> Money {
    pricing::estimate(price, est_in.saturating_add(added_input(deployment)), max_out)
}

/// The tokens that a call may use at most, input and output.
pub fn tokens(deployment: &ActiveDeployment, endpoint: Endpoint, est_in: i64, max_out: Option<i64>) -> i64 {
    est_in.saturating_add(added_input(deployment)).saturating_add(output(deployment, endpoint, max_out))
}

/// The output tokens that a call may use at most.
pub fn output(deployment: &ActiveDeployment, endpoint: Endpoint, max_out: Option<i64>) -> i64 {
    let context = deployment.price.as_ref().and_then(PricedModel::context).unwrap_or(DEFAULT_MAX_OUTPUT);
    match endpoint {
        Endpoint::Embeddings => 0,
        Endpoint::ChatCompletions => max_out.unwrap_or(context.min(DEFAULT_MAX_OUTPUT)),
    }
}
