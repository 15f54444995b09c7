//! The operator's catalog, made ready for use: names resolved, prices found, connections prepared. A new version replaces
//! it whole; a request that began under the old one ends under it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, RwLock},
};

use domain::{
    Catalog, Deployment, Lane, Route,
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

/// A route with its deployments in order.
#[derive(Debug)]
pub struct ActiveRoute {
    pub name: Arc<str>,
    pub spec: Route,
    pub deployments: Vec<Arc<ActiveDeployment>>,
}

impl ActiveRoute {
    /// Whether each call through it can be charged, or need not be.
    pub fn is_priced(&self) -> bool {
        self.spec.allow_unpriced || self.deployments.iter().all(|d| d.price.is_some())
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
        Ok(Self { version, lanes, reserves, teams, routes, deployments, prices, quotas, approval })
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

/// The active catalog, to be taken once per request or batch and held for its length.
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
