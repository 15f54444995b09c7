//! The requests of one route, added up: what each deployment would charge for them.

use std::sync::Arc;

use admission::{catalog::ActiveDeployment, worst_case};
use chrono::{DateTime, Utc};
use domain::{Endpoint, Usage, money::Total};
use pricing::Price;
use store::recent::RecentCalls;

use super::route::{DeploymentQuote, RouteQuote};
use crate::{
    submit::{Flow, Request},
    usual::{ASSUMED_OUTPUT, Basis, usual},
};

pub struct Sums {
    pub model: String,
    pub endpoint: Endpoint,
    pub requests: i64,
    pub est_in: i64,
    expected_out: i64,
    /// `None`: a request sets no maximum.
    max_out: Option<i64>,
    pub basis: Basis,
    worst_tokens: i64,
    limit_tokens: i64,
    /// Requests without a maximum.
    pub unbounded: i64,
    /// Of one call of the first deployment.
    pub latency_ms: Option<i64>,
    /// Output tokens that are expected of one request.
    usual_out: i64,
    deployments: Vec<ByDeployment>,
    /// Whichever serves it: the dearest.
    worst: Option<Total>,
}

/// All of it by one deployment.
struct ByDeployment {
    deployment: Arc<ActiveDeployment>,
    price: Option<Price>,
    expected: Option<Total>,
    worst: Total,
}

impl Sums {
    pub fn new(flow: &Flow<'_>, recent: &[RecentCalls], now: DateTime<Utc>) -> Self {
        let model = flow.route.name.to_string();
        let known = usual(recent, &model, flow.route.deployments.first().map(|deployment| &*deployment.name));
        let deployments =
            flow.route.deployments.iter().map(|deployment| ByDeployment::new(deployment, flow.endpoint, now));
        Self {
            model,
            endpoint: flow.endpoint,
            requests: 0,
            est_in: 0,
            expected_out: 0,
            max_out: Some(0),
            basis: known.as_ref().map_or(Basis::Assumed, |(_, basis)| *basis),
            worst_tokens: 0,
            limit_tokens: 0,
            unbounded: 0,
            latency_ms: known.as_ref().map(|(mean, _)| mean.latency_ms),
            usual_out: known.map_or(ASSUMED_OUTPUT, |(mean, _)| mean.output_tokens),
            deployments: deployments.collect(),
            worst: Some(Total(0)),
        }
    }

    pub fn add(&mut self, request: &Request<'_>) {
        let (est_in, max_out) = (i64::from(request.est_in), request.max_out.map(i64::from));
        let usual = self.usual_out.saturating_mul(request.choices);
        let out = max_out.map_or(usual, |most| most.min(usual));
        self.requests += 1;
        self.est_in += est_in;
        self.expected_out += out;
        self.unbounded += i64::from(!request.is_bounded);
        self.max_out = self.max_out.zip(max_out.filter(|_| request.is_bounded)).map(|(sum, most)| sum + most);
        self.limit_tokens += est_in + max_out.unwrap_or(0);
        if let Some(first) = self.deployments.first() {
            self.worst_tokens += worst_case::tokens(&first.deployment, self.endpoint, est_in, max_out);
        }
        let mut dearest = Some(0);
        for one in &mut self.deployments {
            let worst = one.add(self.endpoint, est_in, out, max_out);
            dearest = dearest.zip(worst).map(|(a, b)| a.max(b));
        }
        self.worst = self.worst.zip(dearest).map(|(sum, worst)| Total(sum.0 + worst));
    }

    pub fn has_output(&self) -> bool {
        self.endpoint != Endpoint::Embeddings
    }

    /// Tokens by which rate limits are granted to it.
    pub fn limit_tokens(&self) -> i64 {
        self.limit_tokens
    }

    pub fn first(&self) -> Option<&ActiveDeployment> {
        self.deployments.first().map(|one| &*one.deployment)
    }

    /// Pico-USD by the first deployment: expected, and at most.
    pub fn cost(&self) -> (i128, i128) {
        let first = self.deployments.first();
        first.map_or((0, 0), |one| (one.expected.unwrap_or_default().0, one.worst.0))
    }

    /// Tokens in and out: expected, and at most.
    pub fn tokens(&self) -> (i128, i128) {
        ((self.est_in + self.expected_out).into(), self.worst_tokens.into())
    }

    /// The first deployment without a price.
    pub fn unpriced(&self) -> Option<&str> {
        self.deployments.iter().find(|one| one.price.is_none()).map(|one| &*one.deployment.name)
    }

    /// Which deployment of the route would be cheapest, and by how much; `None` when that is the first.
    pub fn cheapest(&self) -> Option<(&str, Total)> {
        let saves = self.deployments.iter().filter_map(|one| Some((&*one.deployment.name, self.saves(one)?)));
        saves.max_by_key(|(_, saves)| saves.0)
    }

    fn saves(&self, one: &ByDeployment) -> Option<Total> {
        let less = self.deployments.first()?.expected?.0 - one.expected?.0;
        (less > 0).then_some(Total(less))
    }

    pub fn told(self) -> RouteQuote {
        let told = |one: &ByDeployment| DeploymentQuote {
            deployment: one.deployment.name.to_string(),
            expected_cost_usd: one.expected,
            worst_cost_usd: one.price.is_some().then_some(one.worst),
            saves_usd: self.saves(one),
        };
        RouteQuote {
            deployments: self.deployments.iter().map(told).collect(),
            expected_cost_usd: self.deployments.first().and_then(|one| one.expected),
            worst_cost_usd: self.worst,
            model: self.model,
            endpoint: self.endpoint,
            requests: self.requests,
            est_input_tokens: self.est_in,
            expected_output_tokens: self.expected_out,
            basis: self.basis,
            max_output_tokens: self.max_out,
        }
    }
}

impl ByDeployment {
    fn new(deployment: &Arc<ActiveDeployment>, endpoint: Endpoint, now: DateTime<Utc>) -> Self {
        let price = worst_case::price(deployment, now).filter(|_| deployment.is_priced(endpoint, now));
        let expected = price.is_some().then_some(Total(0));
        Self { deployment: Arc::clone(deployment), price, expected, worst: Total(0) }
    }

    /// Adds a request; gives the most that it costs here, in pico-USD, if that is known.
    fn add(&mut self, endpoint: Endpoint, est_in: i64, out: i64, max_out: Option<i64>) -> Option<i128> {
        let price = self.price.as_ref()?;
        // Embeddings have no output, and no price for it.
        let output_text = (endpoint != Endpoint::Embeddings).then_some(out);
        let usage = Usage { output_text, ..Usage::estimated(est_in, 0) };
        let charge = pricing::charge(price, &usage).ok().and_then(|charge| charge.contracted_cost);
        self.expected = self.expected.zip(charge).map(|(sum, cost)| sum + cost);
        let worst = i128::from(worst_case::cost_at(price, &self.deployment, est_in, max_out).pico());
        self.worst = Total(self.worst.0 + worst);
        Some(worst)
    }
}
