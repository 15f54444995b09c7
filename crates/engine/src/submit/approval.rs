//! Jobs with a high expected cost wait for approval.

use admission::catalog::{ActiveCatalog, ActiveRoute};
use chrono::{DateTime, Utc};
use domain::{Endpoint, Money, Usage, money::Total};
use pricing::Terms;
use store::{PgPool, recent::RecentCalls};

use super::{Flow, retry_copy::FlowCopy};
use crate::usual;

/// The requests of one route together.
pub struct Load<'a> {
    route: &'a ActiveRoute,
    endpoint: Endpoint,
    requests: i64,
    /// Answers that are generated for them, of which a request may ask for several.
    choices: i64,
    /// Estimated.
    tokens_in: i64,
    /// `None`: a request sets no maximum.
    most_out: Option<i64>,
}

impl<'a> Load<'a> {
    pub fn of_flow(flow: &Flow<'a>) -> Self {
        Self {
            route: flow.route,
            endpoint: flow.endpoint,
            requests: flow.items.into(),
            choices: flow.choices,
            tokens_in: flow.total_in,
            most_out: flow.total_out,
        }
    }

    /// `None`: the route is gone.
    pub fn of_copy(target: &FlowCopy, catalog: &'a ActiveCatalog) -> Option<Self> {
        Some(Self {
            route: catalog.route(&target.new.route)?,
            endpoint: Endpoint::from_code(target.new.endpoint)?,
            requests: target.new.items.into(),
            // How many each asked for is not kept.
            choices: target.new.items.into(),
            tokens_in: target.total_in,
            most_out: target.total_out,
        })
    }
}

/// The approval that a job needs before it begins.
#[derive(Debug)]
pub struct ApprovalNeeded {
    pub why: String,
    pub at: DateTime<Utc>,
}

/// `None`: the team's job need not be approved.
pub async fn wanted(
    pool: &PgPool,
    catalog: &ActiveCatalog,
    team_id: i64,
    loads: &[Load<'_>],
    now: DateTime<Utc>,
) -> store::Result<Option<ApprovalNeeded>> {
    if !catalog.asks_for_approval() {
        return Ok(None);
    }
    let mut conn = pool.acquire().await?;
    let Some(team) = store::team::get(&mut conn, team_id).await? else { return Ok(None) };
    let Some(above) = catalog.approval_above(&team.name) else { return Ok(None) };
    // Mostly it cannot cost so much whatever its requests are answered.
    if total(loads, now, |load| load.most_out).is_some_and(|most| most <= above) {
        return Ok(None);
    }
    let recent = store::recent::calls(&mut conn, &team.name, usual::RECENT).await?;
    let expected = total(loads, now, |load| Some(load.expected_out(&recent)));
    let why = match expected {
        Some(cost) if cost <= above => return Ok(None),
        Some(cost) => format!("it is expected to cost ${cost}, and jobs above ${above} wait for approval"),
        None => format!(
            "a model of it has no price, so nobody knows what it will cost, and jobs above ${above} wait for approval"
        ),
    };
    Ok(Some(ApprovalNeeded { why, at: now }))
}

/// `None`: a model has no price, or nobody knows how much it writes.
fn total(loads: &[Load<'_>], now: DateTime<Utc>, out: impl Fn(&Load<'_>) -> Option<i64>) -> Option<Total> {
    loads.iter().try_fold(Total(0), |sum, load| Some(Total(sum.0 + load.cost(out(load)?, now)?.0)))
}

impl Load<'_> {
    fn expected_out(&self, recent: &[RecentCalls]) -> i64 {
        let usual = usual::usual_output(recent, self.route).saturating_mul(self.choices);
        self.most_out.map_or(usual, |most| most.min(usual))
    }

    /// By the route's first deployment, as if all requests were of the same size.
    fn cost(&self, out: i64, now: DateTime<Utc>) -> Option<Total> {
        let n = self.requests.max(1);
        let price = self.route.deployments.first()?.price.as_ref()?.at(now, Terms::sync()).ok()?;
        let mean = |tokens: i64| tokens.max(0).saturating_add(n - 1) / n;
        // Embeddings have no output, and no price for it.
        let output_text = (self.endpoint != Endpoint::Embeddings).then(|| mean(out));
        let usage = Usage { output_text, ..Usage::estimated(mean(self.tokens_in), 0) };
        let each: Money = pricing::charge(&price, &usage).ok()?.contracted_cost?;
        Some(Total(i128::from(each.pico()) * i128::from(n)))
    }
}

#[cfg(test)]
mod tests {
    use domain::Catalog;
    use serde_json::json;

    use super::*;

    /// $1 a token in and $2 a token out; and a model without a price.
    fn catalog() -> ActiveCatalog {
        let deployment = |model: &str| json!({"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": model});
        let catalog: Catalog = serde_json::from_value(json!({
            "deployments": {"d": deployment("m"), "u": deployment("unknown")},
            "routes": {"chat": {"deployments": ["d"]}, "own": {"deployments": ["u"], "allow_unpriced": true}},
            "prices": [{"provider": "openai", "model": "m", "input": "1000000", "output": "2000000"}],
        }))
        .unwrap();
        ActiveCatalog::build(1, catalog).unwrap()
    }

    fn check(route: &str, most_out: Option<i64>, expected: (Option<&str>, Option<&str>)) {
        let catalog = catalog();
        let route = catalog.route(route).unwrap();
        let load =
            Load { route, endpoint: Endpoint::ChatCompletions, requests: 20, choices: 20, tokens_in: 2_000, most_out };
        let calls = RecentCalls {
            deployment: "d".into(),
            model: "chat".into(),
            is_own: true,
            calls: 20,
            output_tokens: 50,
            latency_ms: 1,
        };
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        let text = |total: Option<Total>| total.map(|total| total.to_string());
        let most = text(total(&[load], now, |load| load.most_out));
        let load =
            Load { route, endpoint: Endpoint::ChatCompletions, requests: 20, choices: 20, tokens_in: 2_000, most_out };
        let usual = text(total(&[load], now, |load| Some(load.expected_out(std::slice::from_ref(&calls)))));
        assert_eq!((most.as_deref(), usual.as_deref()), expected);
    }

    #[test]
    fn a_job_costs_what_its_requests_usually_do() {
        check("chat", Some(200), (Some("2400.00"), Some("2400.00")));
        check("chat", Some(20_000), (Some("42000.00"), Some("4000.00")));
        check("chat", None, (None, Some("4000.00")));
        check("own", Some(200), (None, None));
    }
}
