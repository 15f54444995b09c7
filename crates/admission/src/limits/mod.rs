//! The one mechanism for every cap. A replica holds grants and spends them here, without a round trip; the granter takes
//! them from Postgres and gives back what is not needed.

mod adaptive_concurrency;
mod change;
mod collect_demand;
mod containment;
mod granter;
mod kind;
mod lane_partition;
mod most;
mod permit;
mod refused;
mod rule;
mod scope;
mod signals;
mod stored_scope;
mod wait;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, RwLock},
};

use domain::{
    Catalog, Lane,
    catalog::{Caps, LaneRule},
};
use store::limit::Declared;

pub use adaptive_concurrency::AdaptiveConcurrency;
pub use change::{LimitError, lift, set};
pub use containment::check_key;
pub use containment::{CheckError, Contradiction, check};
pub use granter::reload;
pub use kind::Kind;
pub use lane_partition::{Reserves, reserves};
pub use most::most_of;
pub use permit::Permit;
pub use refused::Refused;
pub use rule::{LimitRule, Waiter};
pub use scope::{BadScope, LimitScope};
pub use signals::Signals;
pub use stored_scope::{LanePartition, StoredScope};
pub use wait::{Full, Verdict};

pub type Rules = Arc<[Arc<LimitRule>]>;
/// A lane's reserve of a limit, and what all lanes share of it: a call takes from one of the two.
type OwnOrShared = (Arc<LimitRule>, Arc<LimitRule>);

#[derive(Debug, Default)]
pub struct Limiter {
    by_scope: RwLock<HashMap<Arc<str>, Vec<Arc<LimitRule>>>>,
    /// Signals between waiting calls and the granter.
    pub signals: Arc<Signals>,
    reloading: tokio::sync::Mutex<()>,
    /// How many calls at once deployments take, learnt from their refusals.
    pub concurrency: AdaptiveConcurrency,
}

impl Limiter {
    /// The rules of these scopes; empty, without an allocation, when nothing is limited.
    pub fn rules(&self, scopes: &[&str]) -> Vec<Arc<LimitRule>> {
        let by_scope = self.by_scope.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        if by_scope.is_empty() {
            return Vec::new();
        }
        scopes.iter().filter_map(|scope| by_scope.get(*scope)).flatten().cloned().collect()
    }

    /// The rules that apply to a caller, whatever deployment serves it.
    pub fn caller_rules(&self, team_id: i64, lane: &Lane, key_id: &str) -> Vec<Arc<LimitRule>> {
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
        waiter: Waiter,
    ) -> Result<Permit, Refused> {
        let (all, partitions) = self.rules_at(name, lane, reserves);
        let mut permit = match self.take(&all, tokens, waiter) {
            Ok(permit) => permit,
            Err(refused) => {
                want_partitions(&partitions, tokens, waiter);
                return Err(refused);
            }
        };
        for (n, (own, shared)) in partitions.iter().enumerate() {
            if let Err(refused) = permit.take_either(own, shared, tokens) {
                want_partitions(&partitions[n + 1..], tokens, waiter);
                permit.cancel();
                self.signals.demand.notify_one();
                return Err(refused);
            }
        }
        Ok(permit)
    }

    /// Asks for what a call lacks of all that a deployment is under, without taking anything.
    pub fn want_deployment(&self, name: &str, lane: &Lane, reserves: &Reserves, tokens: i64, waiter: Waiter) {
        let (all, partitions) = self.rules_at(name, lane, reserves);
        all.iter().for_each(|rule| rule.want(tokens, waiter));
        want_partitions(&partitions, tokens, waiter);
    }

    /// Whether a deployment would take the call now, by its limits.
    pub fn check_deployment(&self, name: &str, lane: &Lane, reserves: &Reserves, tokens: i64) -> Result<(), Refused> {
        let (all, partitions) = self.rules_at(name, lane, reserves);
        all.iter().try_for_each(|rule| rule.check(tokens))?;
        partitions.iter().try_for_each(|(own, shared)| own.check(tokens).or_else(|_| shared.check(tokens)))
    }

    fn rules_at(&self, name: &str, lane: &Lane, reserves: &Reserves) -> (Vec<Arc<LimitRule>>, Vec<OwnOrShared>) {
        let (mut all, mut partitions) = self.deployment_rules(name, lane);
        self.concurrency.add_rules(name, lane, reserves, &mut all, &mut partitions);
        (all, partitions)
    }

    /// The rules that each call of the lane takes from, and those of which one does: the lane's reserve, and what is shared.
    fn deployment_rules(&self, name: &str, lane: &Lane) -> (Vec<Arc<LimitRule>>, Vec<OwnOrShared>) {
        let by_scope = self.by_scope.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(whole) = by_scope.get(deployment_scope(name).as_str()) else { return (Vec::new(), Vec::new()) };
        let of = |scope: String| by_scope.get(scope.as_str()).map(Vec::as_slice).unwrap_or_default();
        let own = of(lane_partition::reserve_scope(name, lane));
        let mut all: Vec<Arc<LimitRule>> =
            whole.iter().chain(of(lane_partition::most_scope(name, lane))).cloned().collect();
        let mut partitions = Vec::new();
        for shared in of(lane_partition::shared_scope(name)) {
            match own.iter().find(|own| own.kind == shared.kind) {
                Some(own) => partitions.push((Arc::clone(own), Arc::clone(shared))),
                None => all.push(Arc::clone(shared)),
            }
        }
        (all, partitions)
    }

    /// The cap in force of a scope, as far as this replica has read.
    pub fn cap(&self, scope: &str, kind: Kind) -> Option<i64> {
        let by_scope = self.by_scope.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        by_scope.get(scope)?.iter().find(|rule| rule.kind == kind).map(|rule| rule.state().cap)
    }

    /// Takes a job's call of `tokens` from all the rules, or from none.
    pub fn try_take(&self, rules: &[Arc<LimitRule>], tokens: i64) -> Result<Permit, Refused> {
        self.take(rules, tokens, Waiter::Job)
    }

    /// Takes one call of `tokens` from all the rules, or from none.
    pub fn take(&self, rules: &[Arc<LimitRule>], tokens: i64, waiter: Waiter) -> Result<Permit, Refused> {
        if rules.is_empty() {
            return Ok(Permit::default());
        }
        Permit::take(rules, tokens, waiter).inspect_err(|_| self.signals.demand.notify_one())
    }
}

/// Either of two rules is enough, and it is unknown which one has capacity.
fn want_partitions(partitions: &[OwnOrShared], tokens: i64, waiter: Waiter) {
    for (own, shared) in partitions.iter().filter(|(own, shared)| own.check(tokens).or(shared.check(tokens)).is_err()) {
        own.want(tokens, waiter);
        shared.want(tokens, waiter);
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
        if let Ok(StoredScope::Deployment(name)) = row.scope.parse() {
            apply_partitions(conn, &name, &row.kind, Some(row.cap), &catalog.lanes_in_force()).await?;
        }
    }
    Ok(())
}

/// Keeps the lane partitions of a deployment in step with its limit.
async fn apply_partitions(
    conn: &mut store::PgConnection,
    name: &str,
    kind: &str,
    cap: Option<i64>,
    lanes: &BTreeMap<Lane, LaneRule>,
) -> store::Result<()> {
    let (scopes, caps): (Vec<String>, Vec<i64>) =
        cap.map_or_else(Vec::new, |cap| lane_partition::of(name, cap, lanes)).into_iter().unzip();
    store::limit::lift_partitions(conn, &deployment_scope(name), kind, &scopes).await?;
    for (scope, cap) in scopes.iter().zip(caps) {
        store::limit::set(conn, scope, kind, cap).await?;
    }
    Ok(())
}

pub fn team_scope(team_id: i64) -> String {
    StoredScope::Team(team_id).to_string()
}
pub fn lane_scope(lane: &Lane, team_id: i64) -> String {
    StoredScope::Lane { lane: lane.clone(), team: team_id }.to_string()
}
pub fn key_scope(key_id: &str) -> String {
    StoredScope::Key(key_id.to_owned()).to_string()
}
pub fn deployment_scope(name: &str) -> String {
    StoredScope::Deployment(name.to_owned()).to_string()
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
            let partitions = lane_partition::of(name, cap, &catalog.lanes_in_force()).into_iter();
            all.extend(partitions.map(|(scope, cap)| Declared { scope, kind, cap }));
        }
    }
    all.append(&mut quotas);
    all
}

#[cfg(test)]
mod tests;
