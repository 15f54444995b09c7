//! The operator's catalog, made ready for use: names resolved, prices found, connections prepared. A new version replaces
//! it whole; a request that began under the old one ends under it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, RwLock},
};

use chrono::{DateTime, Utc};
use domain::{
    Catalog, Deployment, Endpoint, Lane, Route,
    catalog::{Approval, BadLanes, LaneRule, Quotas, TeamRule, check_lanes},
    money::Total,
};

use crate::limits::{Reserves, reserves};

/// A deployment, ready to be called.
#[derive(Debug)]
pub struct ActiveDeployment {
    pub name: Arc<str>,
    pub spec: Deployment,
    pub target: providers::Target,
    /// `None`: no price is known.
    pub price: Option<pricing::PricedModel>,
}

impl ActiveDeployment {
    /// Whether its kind has this endpoint at all.
    pub fn serves(&self, endpoint: Endpoint) -> bool {
        providers::serves(self.spec.kind, endpoint)
    }

    /// Whether a call of this endpoint that starts at `at` can be charged: the price has begun, and names output where there is
    /// some. A price for input alone is an embeddings model's.
    pub fn is_priced(&self, endpoint: Endpoint, at: DateTime<Utc>) -> bool {
        let price = self.price.as_ref().and_then(|price| price.at(at, pricing::Terms::sync()).ok());
        price.is_some_and(|price| endpoint == Endpoint::Embeddings || price.covers_output())
    }
}

/// A route with its deployments in order.
#[derive(Debug)]
pub struct ActiveRoute {
    pub name: Arc<str>,
    pub spec: Route,
    pub deployments: Vec<Arc<ActiveDeployment>>,
}

impl ActiveRoute {
    /// Whether one of its deployments has this endpoint at all.
    pub fn serves(&self, endpoint: Endpoint) -> bool {
        self.deployments.iter().any(|deployment| deployment.serves(endpoint))
    }

    /// The kinds of its deployments, as an error names them.
    pub fn kinds(&self) -> String {
        let mut kinds: Vec<&str> = self.deployments.iter().map(|deployment| deployment.spec.kind.as_str()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds.join(", ")
    }

    /// Whether each call of this endpoint that starts at `at` can be charged, or need not be.
    pub fn is_priced(&self, endpoint: Endpoint, at: DateTime<Utc>) -> bool {
        self.spec.allow_unpriced || self.deployments.iter().all(|deployment| deployment.is_priced(endpoint, at))
    }

    /// The deployments that may serve this: those whose kind has the endpoint. Vectors of two models are not comparable: embeddings keep
    /// to the first one's model.
    pub fn candidates(&self, endpoint: Endpoint) -> impl Iterator<Item = &Arc<ActiveDeployment>> {
        let able = move || self.deployments.iter().filter(move |deployment| deployment.serves(endpoint));
        let first = able().next().map(|deployment| deployment.spec.model.as_str());
        able().filter(move |d| endpoint != Endpoint::Embeddings || Some(d.spec.model.as_str()) == first)
    }
}

#[derive(Debug)]
pub struct ActiveCatalog {
    pub version: i64,
    pub lanes: BTreeMap<Lane, LaneRule>,
    pub reserves: Reserves,
    pub teams: BTreeMap<String, TeamRule>,
    pub routes: HashMap<Arc<str>, Arc<ActiveRoute>>,
    pub deployments: HashMap<Arc<str>, Arc<ActiveDeployment>>,
    pub prices: pricing::PriceList,
    pub quotas: Quotas,
    pub approval: Approval,
    /// Own prices that are far from the list's, and hold all the same.
    pub odd_prices: Vec<pricing::OddPrice>,
}

#[derive(Debug, thiserror::Error)]
pub enum BadCatalog {
    #[error("route {route:?} names the deployment {deployment:?}, which is not declared")]
    NoDeployment { route: String, deployment: String },
    #[error("route {0:?} has no deployments")]
    EmptyRoute(String),
    #[error("deployment {deployment:?}: {reason}")]
    Target { deployment: String, reason: String },
    #[error("price of {0}")]
    Price(String),
    #[error(transparent)]
    Lanes(#[from] BadLanes),
}

impl ActiveCatalog {
    /// Resolves names, credentials and prices. Nothing is changed when it fails.
    pub fn build(version: i64, catalog: Catalog) -> Result<Self, BadCatalog> {
        let prices =
            pricing::PriceList::shipped().with_own(&catalog.prices).map_err(|e| BadCatalog::Price(e.to_string()))?;
        let lanes = catalog.lanes_in_force().into_owned();
        check_lanes(&lanes)?;
        let mut deployments = HashMap::new();
        for (name, spec) in catalog.deployments {
            let target = providers::Target::resolve(&name, &spec)
                .map_err(|e| BadCatalog::Target { deployment: name.clone(), reason: e.to_string() })?;
            let price = prices.resolve(spec.provider_name(), &spec.model).ok();
            let name: Arc<str> = name.into();
            deployments.insert(Arc::clone(&name), Arc::new(ActiveDeployment { name, spec, target, price }));
        }
        let mut routes = HashMap::new();
        for (name, spec) in catalog.routes {
            if spec.deployments.is_empty() {
                return Err(BadCatalog::EmptyRoute(name));
            }
            let found: Result<Vec<_>, _> = spec
                .deployments
                .iter()
                .map(|d| {
                    deployments
                        .get(d.as_str())
                        .cloned()
                        .ok_or_else(|| BadCatalog::NoDeployment { route: name.clone(), deployment: d.clone() })
                })
                .collect();
            let name: Arc<str> = name.into();
            routes.insert(Arc::clone(&name), Arc::new(ActiveRoute { name, spec, deployments: found? }));
        }
        let (reserves, teams) = (reserves(&lanes), catalog.teams);
        let (quotas, approval) = (catalog.quotas, catalog.approval);
        let odd_prices = pricing::odd_prices(&catalog.prices, chrono::Utc::now());
        Ok(Self { version, lanes, reserves, teams, routes, deployments, prices, quotas, approval, odd_prices })
    }

    /// Whether any team's jobs may have to be approved.
    pub fn asks_for_approval(&self) -> bool {
        self.approval.above_usd.is_some() || self.teams.values().any(|team| team.approve_above_usd.is_some())
    }

    /// Jobs of the team that are expected to cost more wait for approval; `None`: none does.
    pub fn approval_above(&self, team: &str) -> Option<Total> {
        self.teams.get(team).and_then(|team| team.approve_above_usd).or(self.approval.above_usd)
    }

    /// What a team may have waiting that has no quota of its own.
    pub fn quota(&self) -> store::quota::Quota {
        let most = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        store::quota::Quota {
            requests: most(self.quotas.pending_requests),
            bytes: most(self.quotas.pending_gb.saturating_mul(1 << 30)),
        }
    }

    /// The lanes that take new work, as an error names them.
    pub fn open_lanes(&self) -> String {
        let open = self.lanes.iter().filter(|(_, rule)| !rule.closed);
        open.map(|(lane, _)| lane.as_str()).collect::<Vec<_>>().join(", ")
    }

    pub fn route(&self, name: &str) -> Option<&Arc<ActiveRoute>> {
        self.routes.get(name)
    }
    pub fn deployment(&self, name: &str) -> Option<&Arc<ActiveDeployment>> {
        self.deployments.get(name)
    }
}

/// The active catalog. Take it once per request or batch and keep it for its whole length.
#[derive(Debug, Clone)]
pub struct CatalogWatch(Arc<RwLock<Arc<ActiveCatalog>>>);

impl CatalogWatch {
    pub fn new(first: ActiveCatalog) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(first))))
    }
    pub fn get(&self) -> Arc<ActiveCatalog> {
        match self.0.read() {
            Ok(active) => Arc::clone(&active),
            Err(poisoned) => Arc::clone(&poisoned.into_inner()),
        }
    }
    pub fn replace(&self, next: ActiveCatalog) {
        match self.0.write() {
            Ok(mut active) => *active = Arc::new(next),
            Err(poisoned) => *poisoned.into_inner() = Arc::new(next),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_deployment_without_embeddings_is_no_candidate_for_them() {
        let deployment =
            |kind: &str, model: &str| json!({"kind": kind, "base_url": "http://127.0.0.1:9/v1", "model": model});
        let catalog: Catalog = serde_json::from_value(json!({
            "deployments": {"claude": deployment("anthropic", "claude-sonnet-4-5"), "gpt": deployment("openai", "gpt-4o-mini")},
            "routes": {"chat-only": {"deployments": ["claude"]}, "both": {"deployments": ["claude", "gpt"]}},
        }))
        .unwrap();
        let catalog = ActiveCatalog::build(1, catalog).unwrap();
        let serving = |route: &str, endpoint| -> Vec<String> {
            let route = catalog.route(route).unwrap();
            let names: Vec<String> = route.candidates(endpoint).map(|d| d.name.to_string()).collect();
            assert_eq!(route.serves(endpoint), !names.is_empty());
            names
        };
        assert_eq!(serving("chat-only", Endpoint::ChatCompletions), ["claude"]);
        assert_eq!(serving("chat-only", Endpoint::Embeddings), [""; 0]);
        assert_eq!(serving("both", Endpoint::ChatCompletions), ["claude", "gpt"]);
        assert_eq!(serving("both", Endpoint::Embeddings), ["gpt"]);
    }

    #[test]
    fn a_price_without_output_serves_embeddings_and_no_chat() {
        let deployment = |model: &str| json!({"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": model});
        let route = |deployments: &[&str], allow: bool| json!({"deployments": deployments, "allow_unpriced": allow});
        let price = |model: &str, more: serde_json::Value| {
            let mut price = json!({"provider": "openai", "model": model, "input": "1"});
            price.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            price
        };
        let catalog: Catalog = serde_json::from_value(json!({
            "deployments": {
                "both": deployment("m-both"), "input": deployment("m-input"), "listed": deployment("text-embedding-3-small"),
                "later": deployment("m-later"), "none": deployment("m-none"),
            },
            "routes": {
                "both": route(&["both"], false), "input": route(&["input"], false), "listed": route(&["listed"], false),
                "later": route(&["later"], false), "none": route(&["none"], false),
                "mixed": route(&["both", "input"], false), "allowed": route(&["input"], true),
            },
            "prices": [
                price("m-both", json!({"output": "2"})), price("m-input", json!({"cache_read": "0.5"})),
                price("m-later", json!({"output": "2", "from": "2026-12-01"})),
            ],
        }))
        .unwrap();
        let catalog = ActiveCatalog::build(1, catalog).unwrap();
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let seen = |route: &str| {
            let route = catalog.route(route).unwrap();
            [Endpoint::ChatCompletions, Endpoint::Embeddings].map(|endpoint| route.is_priced(endpoint, now))
        };
        assert_eq!(seen("both"), [true, true]);
        for input_only in ["input", "listed", "mixed"] {
            assert_eq!(seen(input_only), [false, true], "{input_only}");
        }
        assert_eq!(seen("later"), [false, false], "its price has not begun");
        assert_eq!(seen("none"), [false, false]);
        assert_eq!(seen("allowed"), [true, true]);
    }
}
