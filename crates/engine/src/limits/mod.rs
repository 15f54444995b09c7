//! The one mechanism for every cap. A replica holds grants and spends them here, without a round trip; the granter takes
//! them from Postgres and gives back what is not needed.

mod granter;
mod rule;

use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
};

use domain::{Catalog, Lane, catalog::Caps};
use store::limit::Declared;
use tokio::sync::Notify;

pub use granter::{reload, run};
pub use rule::{Kind, Permit, Rule};

/// A limit that refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub scope: Arc<str>,
    pub kind: Kind,
}

impl Refused {
    /// What the refused waits for, as `tollway jobs` and `tollway lanes` show it.
    pub fn reason(&self) -> String {
        format!("limit {} of {}", self.kind.as_str(), self.scope)
    }
}

pub type Rules = Arc<[Arc<Rule>]>;

#[derive(Debug, Default)]
pub struct Limiter {
    by_scope: RwLock<HashMap<Arc<str>, Vec<Arc<Rule>>>>,
    /// Somebody was refused for want of a grant.
    pub(crate) demand: Notify,
}

impl Limiter {
    /// The rules of these scopes; empty, without an allocation, when nothing is limited.
    pub fn rules(&self, scopes: &[&str]) -> Vec<Arc<Rule>> {
        let by_scope = self.by_scope.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        if by_scope.is_empty() {
            return Vec::new();
        }
        scopes.iter().filter_map(|scope| by_scope.get(*scope)).flatten().cloned().collect()
    }

    /// The rules a caller is under, whatever deployment serves it.
    pub fn caller_rules(&self, team_id: i64, lane: &Lane, key_id: &str) -> Vec<Arc<Rule>> {
        if self.by_scope.read().unwrap_or_else(std::sync::PoisonError::into_inner).is_empty() {
            return Vec::new();
        }
        self.rules(&[&team_scope(team_id), &lane_scope(lane, team_id), &key_scope(key_id)])
    }

    /// The rules a deployment is under; lanes without a reserve must also fit into what the reserves leave.
    pub fn deployment_rules(&self, deployment: &str, strict: bool) -> Vec<Arc<Rule>> {
        if self.by_scope.read().unwrap_or_else(std::sync::PoisonError::into_inner).is_empty() {
            return Vec::new();
        }
        let scope = deployment_scope(deployment);
        if strict { self.rules(&[&scope]) } else { self.rules(&[&scope, &shared_scope(deployment)]) }
    }

    /// Takes one call of `tokens` from all the rules, or from none.
    pub fn try_take(&self, rules: &[Arc<Rule>], tokens: i64) -> Result<Permit, Refused> {
        if rules.is_empty() {
            return Ok(Permit::default());
        }
        Permit::take(rules, tokens).inspect_err(|_| self.demand.notify_one())
    }
}

pub fn team_scope(team_id: i64) -> String {
    format!("team:{team_id}")
}
pub fn lane_scope(lane: &Lane, team_id: i64) -> String {
    format!("lane:{lane}:team:{team_id}")
}
pub fn key_scope(key_id: &str) -> String {
    format!("key:{key_id}")
}
pub fn deployment_scope(name: &str) -> String {
    format!("deployment:{name}")
}
fn shared_scope(name: &str) -> String {
    format!("deployment:{name}:shared")
}

/// All limits that a catalog declares. `team_id` finds a team's id by its name.
pub fn declared(catalog: &Catalog, team_id: impl Fn(&str) -> Option<i64>) -> Vec<Declared> {
    let (mut all, mut quotas) = (Vec::new(), Vec::new());
    let mut add = |scope: String, caps: Caps| {
        for (kind, cap) in [("slots", caps.slots), ("rpm", caps.rpm), ("tpm", caps.tpm)] {
            if let Some(cap) = cap {
                all.push(Declared { scope: scope.clone(), kind, cap });
            }
        }
    };
    for (name, team) in &catalog.teams {
        let Some(id) = team_id(name) else { continue };
        add(team_scope(id), team.caps());
        for (kind, cap) in [
            ("pending_requests", team.pending_requests),
            ("pending_bytes", team.pending_gb.map(|gb| gb.saturating_mul(1 << 30))),
        ] {
            if let Some(cap) = cap {
                quotas.push(Declared { scope: team_scope(id), kind, cap });
            }
        }
        for (lane, caps) in &team.lanes {
            add(lane_scope(lane, id), *caps);
        }
    }
    let lanes = if catalog.lanes.is_empty() { Catalog::default_lanes() } else { catalog.lanes.clone() };
    let reserve: i64 = lanes.values().map(|lane| i64::from(lane.reserve_percent)).sum();
    for (name, deployment) in &catalog.deployments {
        let caps = deployment.caps();
        add(deployment_scope(name), caps);
        if reserve > 0 {
            // What lanes without a reserve may use; at least 1, so that a small deployment serves them at all.
            let shared = |cap: Option<i64>| cap.map(|cap| (cap - (cap * reserve + 99) / 100).max(1));
            add(shared_scope(name), Caps { slots: shared(caps.slots), rpm: shared(caps.rpm), tpm: shared(caps.tpm) });
        }
    }
    all.append(&mut quotas);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_keeps_a_part_for_prod() {
        let mut catalog = Catalog::default();
        let deployment = serde_json::json!({"kind": "openai", "base_url": "http://x/v1", "model": "m", "slots": 10});
        catalog.deployments.insert("d".into(), serde_json::from_value(deployment).unwrap());
        let limits = declared(&catalog, |_| None);
        let caps: Vec<(String, i64)> = limits.into_iter().map(|l| (l.scope, l.cap)).collect();
        assert_eq!(caps, [("deployment:d".to_owned(), 10), ("deployment:d:shared".to_owned(), 9)]);
    }
}
