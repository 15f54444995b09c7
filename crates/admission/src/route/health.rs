//! How deployments fare, as this replica sees it. One that throttles or fails cools down; then a single call probes it.
//!
//! A failure is judged before its deployment is. What a provider says of itself (throttled, overloaded, unreachable, out of quota)
//! closes the deployment to all. Any other failure may be the request's: it closes the deployment to the team that made it, and
//! only when more than one request failed there; to all teams when another team's calls fail too. A team whose calls fail while
//! others' are answered has itself to blame: its failures count against its requests, and close nothing.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use domain::{
    attempt::{ErrorClass, Fault},
    waits::{Obstacle, WaitReason},
};
use store::deployment_order::Order;

use super::{
    Blame, by_hand,
    circuit::{Circuit, State},
};

/// Failures in a row of the kind that may be the request's own fault, before the deployment is taken to be down.
const BREAKER_OPENS_AT: u32 = 10;
/// The same for a refusal of the credential or the model, which costs nothing and says more.
const REFUSALS_OPEN_AT: u32 = 2;
/// How long an answer to one team contradicts the failures of another.
const CONTRADICTION_WINDOW: Duration = Duration::from_secs(30);

/// A call that failed.
#[derive(Debug, Clone, Copy)]
pub struct Failure<'a> {
    pub deployment: &'a Arc<str>,
    pub team: &'a Arc<str>,
    /// Tells requests apart: evidence comes from more than one.
    pub request: u64,
    pub class: ErrorClass,
    pub retry_after: Option<Duration>,
    pub began: Instant,
}

/// Why a deployment takes no call now, and when to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shut {
    pub after: Duration,
    /// `None`: it was taken out by hand.
    pub class: Option<ErrorClass>,
}

/// A deployment that takes no calls of some team, for an operator to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub deployment: Arc<str>,
    /// `None`: of all teams.
    pub team: Option<Arc<str>>,
    pub shut: Shut,
    pub is_probed: bool,
}

#[derive(Debug, Default)]
struct Record {
    all: Circuit,
    teams: HashMap<Arc<str>, Circuit>,
    /// The last answers to two teams: when their calls began, and when they ended.
    answers: Vec<(Arc<str>, Instant, Instant)>,
}

#[derive(Debug, Default)]
struct Records {
    of: HashMap<Arc<str>, Record>,
    /// Taken out by hand, until then.
    by_hand: HashMap<Arc<str>, Instant>,
    /// The last order that was followed.
    obeyed: Option<DateTime<Utc>>,
}

#[derive(Debug, Default)]
pub struct Health {
    records: Mutex<Records>,
    /// Nothing is recorded of any deployment: what most calls find, without a lock.
    is_troubled: AtomicBool,
}

impl Health {
    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_untroubled(&self) -> bool {
        !self.is_troubled.load(Ordering::Acquire)
    }

    /// Whether a call of the team may start now.
    pub fn ready(&self, deployment: &str, team: &str) -> Result<(), Shut> {
        if self.is_untroubled() { Ok(()) } else { self.ready_at(deployment, team, Instant::now()) }
    }

    fn ready_at(&self, deployment: &str, team: &str, now: Instant) -> Result<(), Shut> {
        let records = self.records();
        if let Some(until) = records.by_hand.get(deployment).filter(|until| now < **until) {
            return Err(Shut { after: *until - now, class: None });
        }
        let Some(record) = records.of.get(deployment) else { return Ok(()) };
        for circuit in [Some(&record.all), record.teams.get(team)].into_iter().flatten() {
            circuit.ready(now).map_err(|after| Shut { after, class: circuit.class })?;
        }
        Ok(())
    }

    /// A call of the team begins. After cooling it is the probe, and no other call starts until it has reported back.
    pub fn started(&self, deployment: &str, team: &str) {
        self.each_circuit(deployment, team, |circuit, now| circuit.started(now));
    }

    /// A call that had begun, or was about to, ends without an answer, for reasons that are not the deployment's. If it was the
    /// probe, the next call is.
    pub fn abandoned(&self, deployment: &str, team: &str, began: Instant) {
        self.each_circuit(deployment, team, |circuit, now| circuit.abandoned(began, now));
    }

    fn each_circuit(&self, deployment: &str, team: &str, act: impl Fn(&mut Circuit, Instant)) {
        if self.is_untroubled() {
            return;
        }
        let (now, mut records) = (Instant::now(), self.records());
        let Some(record) = records.of.get_mut(deployment) else { return };
        act(&mut record.all, now);
        if let Some(circuit) = record.teams.get_mut(team) {
            act(circuit, now);
        }
    }

    /// A call of the team, begun then, was answered. It says nothing of what began after it.
    pub fn succeeded(&self, deployment: &Arc<str>, team: &Arc<str>, began: Instant) {
        if self.is_untroubled() {
            return;
        }
        let (now, mut records) = (Instant::now(), self.records());
        let Some(record) = records.of.get_mut(deployment) else { return };
        record.answered(deployment, team, began, now);
        if record.is_healthy() {
            records.of.remove(deployment);
        }
        self.note(&records);
    }

    /// Records a failed call, and returns whom the evidence blames.
    pub fn failed(&self, failure: Failure<'_>) -> Blame {
        self.failed_at(failure, Instant::now())
    }

    fn failed_at(&self, failure: Failure<'_>, now: Instant) -> Blame {
        let mut records = self.records();
        let record = records.of.entry(Arc::clone(failure.deployment)).or_default();
        let blame = record.failed(failure, now);
        if record.is_healthy() {
            records.of.remove(failure.deployment);
        }
        self.note(&records);
        blame
    }

    fn note(&self, records: &Records) {
        let is_troubled = !records.of.is_empty() || !records.by_hand.is_empty();
        self.is_troubled.store(is_troubled, Ordering::Release);
    }

    /// Follows what operators ordered by hand; gives those that were released since the last time, of which nothing is known from
    /// here on.
    pub fn obey(&self, orders: &[Order], now: DateTime<Utc>, local: Instant) -> Vec<String> {
        let mut records = self.records();
        let (out, released) = by_hand::standing(orders, records.obeyed, (now, local));
        for name in &released {
            records.of.remove(name.as_str());
        }
        records.by_hand = out;
        records.obeyed =
            orders.iter().map(|order| order.ordered_at).max().or(records.obeyed).or(Some(DateTime::<Utc>::MIN_UTC));
        self.note(&records);
        released
    }

    /// Deployments whose every probe failed for at least so long, with that time. Of one that nobody calls any more nothing is known.
    pub fn down_for(&self, least: Duration) -> Vec<String> {
        let (now, records) = (Instant::now(), self.records());
        let is_down = |record: &Record| {
            record.circuits().filter_map(|(_, circuit)| circuit.down_for(now)).any(|lasted| lasted >= least)
        };
        records.of.iter().filter(|(_, record)| is_down(record)).map(|(name, _)| name.to_string()).collect()
    }

    /// Deployments that take no calls now.
    pub fn standings(&self) -> Vec<Standing> {
        let (now, records) = (Instant::now(), self.records());
        let by_hand = records.by_hand.iter().filter(|(_, until)| now < **until).map(|(name, until)| Standing {
            deployment: Arc::clone(name),
            team: None,
            shut: Shut { after: *until - now, class: None },
            is_probed: false,
        });
        let by_evidence = records.of.iter().flat_map(|(name, record)| {
            record.circuits().filter(|(_, circuit)| !circuit.is_closed()).map(move |(team, circuit)| Standing {
                deployment: Arc::clone(name),
                team: team.cloned(),
                shut: Shut { after: circuit.ready(now).err().unwrap_or_default(), class: circuit.class },
                is_probed: matches!(circuit.state, State::Probing { .. }),
            })
        });
        by_hand.chain(by_evidence).collect()
    }
}

impl Record {
    fn circuits(&self) -> impl Iterator<Item = (Option<&Arc<str>>, &Circuit)> {
        std::iter::once((None, &self.all)).chain(self.teams.iter().map(|(team, circuit)| (Some(team), circuit)))
    }

    fn is_healthy(&self) -> bool {
        self.all.is_closed() && self.teams.is_empty()
    }

    fn answered(&mut self, deployment: &str, team: &Arc<str>, began: Instant, now: Instant) {
        self.all.answered(deployment, began);
        self.teams.retain(|name, circuit| {
            if name != team {
                // What keeps a team out was not the deployment: it has just answered somebody else.
                if circuit.knows(began) && !circuit.class.is_some_and(is_said) {
                    circuit.state = State::Closed;
                }
                return !circuit.is_closed() || !circuit.streak.is_stale(now);
            }
            circuit.answered(deployment, began);
            !circuit.is_closed()
        });
        self.answers.retain(|(name, ..)| name != team);
        self.answers.push((Arc::clone(team), began, now));
        if self.answers.len() > 2 {
            self.answers.remove(0);
        }
    }

    /// Whether others were answered since this team's calls began to fail.
    fn is_contradicted(&self, team: &Arc<str>, now: Instant) -> bool {
        let Some(first) = self.teams.get(team).and_then(|circuit| circuit.streak.first) else { return false };
        self.answers.iter().any(|(name, began, ended)| {
            name != team && *began > first && now.saturating_duration_since(*ended) <= CONTRADICTION_WINDOW
        })
    }

    fn failed(&mut self, failure: Failure<'_>, now: Instant) -> Blame {
        let Failure { deployment, team, request, class, retry_after, began } = failure;
        if class.fault() == Fault::Request {
            self.answered(deployment, team, began, now);
            return Blame::Request;
        }
        let is_contradicted = self.is_contradicted(team, now);
        let keeps_out = |circuit: &Circuit| !circuit.is_closed() && !circuit.streak.is_stale(now);
        let is_of_teams = self.teams.iter().any(|(name, circuit)| name != team && keeps_out(circuit));
        let circuit = self.teams.entry(Arc::clone(team)).or_default();
        circuit.streak.add(request, now);
        let (streak, is_open) = (circuit.streak, !circuit.is_closed());
        if is_said(class) {
            // A provider that throttles one team alone, request after request, means its requests.
            let is_own = is_contradicted && !is_unsent(class);
            let circuit = if is_own { circuit } else { &mut self.all };
            circuit.open(deployment, class, retry_after, began, now);
            return Blame::Deployment;
        }
        if is_contradicted {
            return Blame::Request;
        }
        let is_refusal = is_refusal(class);
        let enough = if is_refusal { REFUSALS_OPEN_AT } else { BREAKER_OPENS_AT };
        let is_evident = streak.failures >= enough && (streak.is_of_several || class == ErrorClass::ModelNotFound);
        let (is_shut, is_for_all) = (is_open || !self.all.is_closed(), is_of_teams || !self.all.is_closed());
        if !(is_shut || is_evident || is_of_teams) {
            return if is_refusal { Blame::Unclear } else { Blame::Request };
        }
        let circuit = if is_for_all { &mut self.all } else { circuit };
        circuit.open(deployment, class, retry_after, began, now);
        Blame::Deployment
    }
}

/// What a provider says of itself, whatever the request.
fn is_said(class: ErrorClass) -> bool {
    is_unsent(class) || matches!(class, ErrorClass::Throttled | ErrorClass::Overloaded | ErrorClass::QuotaExhausted)
}

/// Nothing was sent, so no request can be the cause.
fn is_unsent(class: ErrorClass) -> bool {
    matches!(class, ErrorClass::Connect | ErrorClass::ConnectTimeout)
}

fn is_refusal(class: ErrorClass) -> bool {
    matches!(class, ErrorClass::Credential | ErrorClass::ModelNotFound | ErrorClass::Forbidden)
}

/// What a deployment that is shut makes others wait for.
pub fn obstacle(deployment: &str, shut: Shut) -> Obstacle {
    use ErrorClass::{Credential, ModelNotFound, Overloaded, QuotaExhausted, Throttled};
    let (reason, why) = match shut.class {
        None => (WaitReason::ProviderDown, "was taken out by hand; it cools down".to_owned()),
        Some(Throttled) => (WaitReason::ProviderCooling, "cools down: the provider's own limit is reached".to_owned()),
        Some(Overloaded) => (WaitReason::ProviderCooling, "cools down: the provider is overloaded".to_owned()),
        Some(QuotaExhausted) => {
            (WaitReason::ProviderQuota, "cools down: the provider says that the account's quota is used up".to_owned())
        }
        Some(ModelNotFound) => {
            (WaitReason::ModelUnknown, "cools down: the provider does not know the deployment's model".to_owned())
        }
        Some(Credential) => {
            (WaitReason::ProviderDown, "is down and cools down: it refuses the operator's credential".to_owned())
        }
        Some(class) => (WaitReason::ProviderDown, format!("is down and cools down ({})", class.as_str())),
    };
    Obstacle::new(reason, format!("provider {deployment} {why}"))
}

#[cfg(test)]
mod tests;
