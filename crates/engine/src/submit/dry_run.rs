//! What a job would be: counts, tokens and the most it can cost, by route.

use std::sync::Arc;

use admission::{
    catalog::{ActiveDeployment, ActiveRoute},
    worst_case,
};
use chrono::{DateTime, Utc};
use domain::{Endpoint, Lane, Money, money::Total};
use pricing::Price;
use serde::Serialize;

use super::checker::{Flow, Request};

/// A job that would be accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DryRun {
    pub lane: Lane,
    pub requests: i64,
    /// Of the upload, unzipped.
    pub bytes: u64,
    pub est_input_tokens: i64,
    /// Absent when a model has no price. What a request without a maximum may write is assumed.
    pub max_cost_usd: Option<Total>,
    pub routes: Vec<RouteSum>,
}

/// The requests of one model and endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteSum {
    pub model: String,
    pub endpoint: Endpoint,
    pub requests: i64,
    pub est_input_tokens: i64,
    /// Absent when a request sets no maximum.
    pub max_output_tokens: Option<i64>,
    pub max_cost_usd: Option<Total>,
}

/// One route's prices, and its sums so far.
pub struct Tally {
    prices: Option<Vec<(Arc<ActiveDeployment>, Price)>>,
    sum: RouteSum,
}

impl Tally {
    pub fn new(flow: &Flow<'_>, now: DateTime<Utc>) -> Self {
        let prices = prices(flow.route, flow.endpoint, now);
        let sum = RouteSum {
            model: flow.route.name.to_string(),
            endpoint: flow.endpoint,
            requests: 0,
            est_input_tokens: 0,
            max_output_tokens: Some(0),
            max_cost_usd: prices.is_some().then_some(Total(0)),
        };
        Self { prices, sum }
    }

    pub fn add(&mut self, request: &Request<'_>) {
        let (est_in, max_out) = (i64::from(request.est_in), request.max_out.map(i64::from));
        self.sum.requests += 1;
        self.sum.est_input_tokens += est_in;
        let said = max_out.filter(|_| request.is_bounded);
        self.sum.max_output_tokens = self.sum.max_output_tokens.zip(said).map(|(sum, most)| sum + most);
        // Whichever deployment serves it: the dearest.
        let worst = |(deployment, price): &(Arc<ActiveDeployment>, Price)| {
            worst_case::cost_at(price, deployment, est_in, max_out)
        };
        let cost = self.prices.iter().flatten().map(worst).max().unwrap_or(Money::ZERO);
        self.sum.max_cost_usd = self.sum.max_cost_usd.map(|sum| sum + cost);
    }
}

/// The price of each deployment; `None` when one of them has none.
fn prices(route: &ActiveRoute, endpoint: Endpoint, now: DateTime<Utc>) -> Option<Vec<(Arc<ActiveDeployment>, Price)>> {
    let priced = |deployment: &Arc<ActiveDeployment>| {
        let price = worst_case::price(deployment, now).filter(|_| deployment.is_priced(endpoint, now))?;
        Some((Arc::clone(deployment), price))
    };
    route.deployments.iter().map(priced).collect()
}

pub fn add_up(lane: Lane, bytes: u64, tallies: Vec<Tally>) -> DryRun {
    let routes: Vec<RouteSum> = tallies.into_iter().map(|tally| tally.sum).collect();
    DryRun {
        lane,
        requests: routes.iter().map(|route| route.requests).sum(),
        bytes,
        est_input_tokens: routes.iter().map(|route| route.est_input_tokens).sum(),
        max_cost_usd: routes.iter().try_fold(Total(0), |sum, route| Some(Total(sum.0 + route.max_cost_usd?.0))),
        routes,
    }
}
