//! What a quote says of one route.

use domain::{Endpoint, money::Total};
use serde::Serialize;

use crate::usual::Basis;

/// The requests of one model and endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteQuote {
    pub model: String,
    pub endpoint: Endpoint,
    pub requests: i64,
    pub est_input_tokens: i64,
    pub expected_output_tokens: i64,
    pub basis: Basis,
    /// Absent when a request sets no maximum.
    pub max_output_tokens: Option<i64>,
    pub expected_cost_usd: Option<Total>,
    pub worst_cost_usd: Option<Total>,
    /// In the route's order: the first serves it as long as it can.
    pub deployments: Vec<DeploymentQuote>,
}

/// All requests of the route by one deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeploymentQuote {
    pub deployment: String,
    pub expected_cost_usd: Option<Total>,
    pub worst_cost_usd: Option<Total>,
    /// What is expected to be saved, were it the first; absent when it is not cheaper.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saves_usd: Option<Total>,
}
