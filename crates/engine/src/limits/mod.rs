//! The one mechanism for every cap. A replica holds grants and spends them here, without a round trip; the granter takes
//! them from Postgres and gives back what is not needed.

mod beside;
mod change;
mod granter;
mod pace;
mod rule;
mod target;

use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
};

use domain::{
    Catalog, Lane,
    catalog::Caps,
    waits::{Obstacle, WaitReason},
};
use store::limit::Declared;
use tokio::sync::Notify;

pub(crate) use beside::check_key;
pub use beside::{CheckError, Contradiction, check};
pub use change::{LimitError, lift, set};
pub use granter::{reload, run};
pub use pace::Paces;
pub use rule::{Kind, Permit, Rule};
pub use target::Target;

/// A limit that refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub scope: Arc<str>,
    pub kind: Kind,
}

impl Refused {
    /// What the refused waits for, as `tollway jobs` and `tollway lanes` show it. People know a team by its name.
    pub fn obstacle(&self, team: &str) -> Obstacle {
        let reason = match self.scope.split(':').next() {
            Some("team") => WaitReason::TeamLimit,
            Some("lane") => WaitReason::LaneLimit,
            Some("key") => WaitReason::KeyLimit,
            _ => WaitReason::DeploymentLimit,
        };
        let scope = match self.scope.rsplit_once("team:") {
            Some((start, _)) if reason != WaitReason::DeploymentLimit => format!("{start}team:{team}"),
            _ => self.scope.to_string(),
        };
        Obstacle::new(reason, format!("limit {} of {scope}", self.kind.as_str()))
    }
}

pub type Rules = Arc<[Arc<Rule>]>;

#[derive(Debug, Default)]
pub struct Limiter {
    by_scope: RwLock<HashMap<Arc<str>, Vec<Arc<Rule>>>>,
    /// Somebody was refused for want of a grant.
    pub(crate) demand: Notify,
    /// What deployments take at once, as far as their refusals tell.
    pub paces: Paces,
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
        // On a line of its own: a second look while the first holds the lock could wait for a writer that waits for the first.
        let is_unlimited = self.by_scope.read().unwrap_or_else(std::sync::PoisonError::into_inner).is_empty();
        let mut rules = match (is_unlimited, strict) {
            (true, _) => Vec::new(),
            (false, true) => self.rules(&[&deployment_scope(deployment)]),
            (false, false) => self.rules(&[&deployment_scope(deployment), &shared_scope(deployment)]),
        };
        rules.push(self.paces.rule(deployment));
        rules
    }

    /// The cap in force of a scope, as far as this replica has read.
    pub fn cap(&self, scope: &str, kind: Kind) -> Option<i64> {
        let by_scope = self.by_scope.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        by_scope.get(scope)?.iter().find(|rule| rule.kind == kind).map(|rule| rule.state().cap)
    }

    /// Takes one call of `tokens` from all the rules, or from none.
    pub fn try_take(&self, rules: &[Arc<Rule>], tokens: i64) -> Result<Permit, Refused> {
        if rules.is_empty() {
            return Ok(Permit::default());
        }
        Permit::take(rules, tokens).inspect_err(|_| self.demand.notify_one())
    }
}

/// Makes the limits in force those that the catalog declares, with what the API added. In the transaction that applies the
/// catalog.
pub async fn apply(conn: &mut store::PgConnection, catalog: &Catalog) -> store::Result<()> {
    let teams = store::team::list(conn).await?;
    let declared = declared(catalog, |name| teams.iter().find(|team| team.name == name).map(|team| team.team_id));
    store::limit::apply(conn, &declared).await?;
    // Deployments whose limits the API set.
    for row in store::limit::active(conn).await?.into_iter().filter(|row| row.managed_by == "api") {
        let name = row.scope.strip_prefix("deployment:").filter(|name| !name.ends_with(":shared"));
        if let Some(name) = name {
            share(conn, name, &row.kind, Some(row.cap), reserve(catalog)).await?;
        }
    }
    Ok(())
}

/// Keeps what lanes without a reserve may use of a deployment in step with its limit.
async fn share(
    conn: &mut store::PgConnection,
    name: &str,
    kind: &str,
    cap: Option<i64>,
    reserve: i64,
) -> store::Result<()> {
    match cap.filter(|_| reserve > 0) {
        Some(cap) => store::limit::set(conn, &shared_scope(name), kind, shared_cap(cap, reserve)).await,
        None => store::limit::lift(conn, &shared_scope(name), kind).await,
    }
}

/// Percent that is reserved for some lane.
fn reserve(catalog: &Catalog) -> i64 {
    catalog.lanes_in_force().values().map(|lane| i64::from(lane.reserve_percent)).sum()
}

/// What lanes without a reserve may use; at least 1, so that a small deployment serves them at all.
fn shared_cap(cap: i64, reserve: i64) -> i64 {
    let kept = (i128::from(cap) * i128::from(reserve) + 99) / 100;
    (cap - i64::try_from(kept).unwrap_or(cap)).max(1)
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
        all.extend(caps.each().map(|(kind, cap)| Declared { scope: scope.clone(), kind, cap }));
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
    let reserve = reserve(catalog);
    for (name, deployment) in &catalog.deployments {
        let caps = deployment.caps();
        add(deployment_scope(name), caps);
        if reserve > 0 {
            let shared = |cap: Option<i64>| cap.map(|cap| shared_cap(cap, reserve));
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
    fn an_obstacle_names_the_team() {
        let told = |scope: &str| Refused { scope: scope.into(), kind: Kind::Rpm }.obstacle("search").stored();
        assert_eq!(told("team:7"), "team_limit limit rpm of team:search");
        assert_eq!(told("lane:bulk:team:7"), "lane_limit limit rpm of lane:bulk:team:search");
        assert_eq!(told("key:abc"), "key_limit limit rpm of key:abc");
        assert_eq!(told("deployment:team:7"), "deployment_limit limit rpm of deployment:team:7");
    }

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
