//! The one mechanism for every cap. A replica holds grants and spends them here, without a round trip; the granter takes
//! them from Postgres and gives back what is not needed.

mod beside;
mod change;
mod granter;
mod pace;
mod parts;
mod rule;
mod target;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, RwLock},
};

use domain::{
    Catalog, Lane,
    catalog::{Caps, LaneRule},
    waits::{Obstacle, WaitReason},
};
use store::limit::Declared;
use tokio::sync::Notify;

pub(crate) use beside::check_key;
pub use beside::{CheckError, Contradiction, check};
pub use change::{LimitError, lift, set};
pub use granter::{reload, run};
pub use pace::Paces;
pub use parts::{Reserves, reserves};
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
/// A lane's reserve of a limit, and what all lanes share of it: a call takes from one of the two.
type OwnOrShared = (Arc<Rule>, Arc<Rule>);

#[derive(Debug, Default)]
pub struct Limiter {
    by_scope: RwLock<HashMap<Arc<str>, Vec<Arc<Rule>>>>,
    /// Somebody was refused for want of a grant.
    pub(crate) demand: Notify,
    reloading: tokio::sync::Mutex<()>,
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

    /// Takes one call of `tokens` from all that a deployment is under: its own limits, the lane's maximum of each, and the lane's
    /// reserve of each, or when that is used up what all lanes share.
    pub fn take_deployment(
        &self,
        name: &str,
        lane: &Lane,
        reserves: &Reserves,
        tokens: i64,
    ) -> Result<Permit, Refused> {
        let (mut all, mut parts) = self.deployment_rules(name, lane);
        self.paces.add_rules(name, lane, reserves, &mut all, &mut parts);
        let mut permit = self.try_take(&all, tokens)?;
        for (own, shared) in parts {
            if let Err(refused) = permit.take_either(&own, &shared) {
                permit.cancel();
                self.demand.notify_one();
                return Err(refused);
            }
        }
        Ok(permit)
    }

    /// The rules that each call of the lane takes from, and those of which one does: the lane's reserve, and what is shared.
    fn deployment_rules(&self, name: &str, lane: &Lane) -> (Vec<Arc<Rule>>, Vec<OwnOrShared>) {
        let by_scope = self.by_scope.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(whole) = by_scope.get(deployment_scope(name).as_str()) else { return (Vec::new(), Vec::new()) };
        let of = |scope: String| by_scope.get(scope.as_str()).map(Vec::as_slice).unwrap_or_default();
        let own = of(parts::reserve_scope(name, lane));
        let mut all: Vec<Arc<Rule>> = whole.iter().chain(of(parts::most_scope(name, lane))).cloned().collect();
        let mut parts = Vec::new();
        for shared in of(parts::shared_scope(name)) {
            match own.iter().find(|own| own.kind == shared.kind) {
                Some(own) => parts.push((Arc::clone(own), Arc::clone(shared))),
                None => all.push(Arc::clone(shared)),
            }
        }
        (all, parts)
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
        if let Some(name) = row.scope.strip_prefix("deployment:").filter(|name| !parts::is_part(name)) {
            part(conn, name, &row.kind, Some(row.cap), &catalog.lanes_in_force()).await?;
        }
    }
    Ok(())
}

/// Keeps what lanes have of a deployment in step with its limit.
async fn part(
    conn: &mut store::PgConnection,
    name: &str,
    kind: &str,
    cap: Option<i64>,
    lanes: &BTreeMap<Lane, LaneRule>,
) -> store::Result<()> {
    let (scopes, caps): (Vec<String>, Vec<i64>) =
        cap.map_or_else(Vec::new, |cap| parts::of(name, cap, lanes)).into_iter().unzip();
    store::limit::lift_within(conn, &deployment_scope(name), kind, &scopes).await?;
    for (scope, cap) in scopes.iter().zip(caps) {
        store::limit::set(conn, scope, kind, cap).await?;
    }
    Ok(())
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

/// All limits that a catalog declares. `team_id` finds a team's id by its name.
pub fn declared(catalog: &Catalog, team_id: impl Fn(&str) -> Option<i64>) -> Vec<Declared> {
    let (mut all, mut quotas) = (Vec::new(), Vec::new());
    let of =
        |scope: String, caps: Caps| caps.each().map(move |(kind, cap)| Declared { scope: scope.clone(), kind, cap });
    for (name, team) in &catalog.teams {
        let Some(id) = team_id(name) else { continue };
        all.extend(of(team_scope(id), team.caps()));
        for (kind, cap) in [
            ("pending_requests", team.pending_requests),
            ("pending_bytes", team.pending_gb.map(|gb| gb.saturating_mul(1 << 30))),
        ] {
            if let Some(cap) = cap {
                quotas.push(Declared { scope: team_scope(id), kind, cap });
            }
        }
        for (lane, caps) in &team.lanes {
            all.extend(of(lane_scope(lane, id), *caps));
        }
    }
    for (name, deployment) in &catalog.deployments {
        let caps = deployment.caps();
        all.extend(of(deployment_scope(name), caps));
        for (kind, cap) in caps.each() {
            let parts = parts::of(name, cap, &catalog.lanes_in_force()).into_iter();
            all.extend(parts.map(|(scope, cap)| Declared { scope, kind, cap }));
        }
    }
    all.append(&mut quotas);
    all
}

#[cfg(test)]
mod tests;
