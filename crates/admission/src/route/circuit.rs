//! A circuit breaker: closed, cooling, or half-open with one probe under way. Pure; time is an argument.

use std::time::{Duration, Instant};

use domain::attempt::{ErrorClass, Fault};
use tracing::{info, warn};

const MIN_COOLING: Duration = Duration::from_millis(500);
const MAX_COOLING: Duration = Duration::from_secs(30);
/// Of a fault that only the operator mends: to ask more often would not mend it sooner.
const OPERATOR: Backoff = Backoff { first: Duration::from_secs(30), longest: Duration::from_secs(600) };
/// A provider's own Retry-After is believed up to this. A longer one cannot be meant, so the pause is ours.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);
/// A probe without an answer for this long is sent again.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);
/// How often waiting calls check for the probe's answer.
pub(super) const PROBE_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// A failure older than this is no evidence when a new one is judged.
const EVIDENCE_MAX_AGE: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Closed,
    Cooling {
        until: Instant,
    },
    Probing {
        since: Instant,
    },
}

/// Failures in a row, and whether more than one request had them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Streak {
    pub first: Option<Instant>,
    last: Option<Instant>,
    pub failures: u32,
    request: u64,
    pub is_of_several: bool,
}

impl Streak {
    pub fn add(&mut self, request: u64, now: Instant) {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) > EVIDENCE_MAX_AGE) {
            *self = Self::default();
        }
        match self.first {
            None => (self.first, self.request) = (Some(now), request),
            Some(_) => self.is_of_several |= self.request != request,
        }
        (self.last, self.failures) = (Some(now), self.failures + 1);
    }

    pub fn is_stale(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now.saturating_duration_since(last) > EVIDENCE_MAX_AGE)
    }
}

#[derive(Debug, Default)]
pub(super) struct Circuit {
    pub state: State,
    pub streak: Streak,
    /// Why it opened.
    pub class: Option<ErrorClass>,
    /// Times it opened since the last success, and when it last did.
    coolings: u32,
    opened_at: Option<Instant>,
    /// The first and the last of the failures for which it is down: it fails, and is not only busy.
    down: Option<(Instant, Instant)>,
}

impl Circuit {
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether a call may start at `now`; else when to ask again.
    pub fn ready(&self, now: Instant) -> Result<(), Duration> {
        match self.state {
            State::Cooling { until } if now < until => Err(until - now),
            State::Probing { since } if now < since + PROBE_TIMEOUT => Err(PROBE_POLL_INTERVAL),
            State::Closed | State::Cooling { .. } | State::Probing { .. } => Ok(()),
        }
    }

    /// A call begins. After cooling it is the probe, and no other call starts until it has reported back.
    pub fn started(&mut self, now: Instant) {
        if !self.is_closed() {
            self.state = State::Probing { since: now };
        }
    }

    /// A call ends without an answer for reasons that are not the deployment's. If it was the probe, the next call is.
    pub fn abandoned(&mut self, began: Instant, now: Instant) {
        if matches!(self.state, State::Probing { .. }) && self.knows(began) {
            self.state = State::Cooling { until: now };
        }
    }

    /// Whether a call that began then has anything to say of the deployment as it is since it cooled.
    pub fn knows(&self, began: Instant) -> bool {
        self.opened_at.is_none_or(|at| at <= began)
    }

    /// A call was answered. One that began before the circuit opened does not close it.
    pub fn answered(&mut self, deployment: &str, began: Instant) {
        if !self.is_closed() && !self.knows(began) {
            return;
        }
        if self.down.is_some() {
            info!(deployment, "A deployment that was down answers again");
        }
        *self = Self::default();
    }

    /// Opens, or stays open for longer. Calls that were under way when it opened say nothing new, unless they know of a longer wait.
    pub fn open(&mut self, deployment: &str, class: ErrorClass, asked: Option<Duration>, began: Instant, now: Instant) {
        let cooling = match self.state {
            State::Cooling { until } => Some(until),
            // It is not the probe, which goes on.
            State::Probing { .. } if !self.knows(began) => Some(now),
            State::Closed | State::Probing { .. } => None,
        };
        let asked = meant(class, asked);
        let pause = match (asked, cooling) {
            (Some(asked), _) => asked,
            (None, Some(_)) => return,
            (None, None) => backoff(class).after(self.coolings),
        };
        // A pause that was asked for says nothing of how long one of ours should be.
        if cooling.is_none() && asked.is_none() {
            self.coolings += 1;
        }
        self.note_down(deployment, class, now);
        let until = (now + pause).max(cooling.unwrap_or(now));
        self.state = State::Cooling { until };
        (self.class, self.opened_at) = (Some(class), Some(now));
    }

    fn note_down(&mut self, deployment: &str, class: ErrorClass, now: Instant) {
        let is_down = !matches!(class, ErrorClass::Throttled | ErrorClass::Overloaded);
        if is_down && self.down.is_none() {
            warn!(deployment, error = class.as_str(), "A deployment is down; it is probed until it answers");
        }
        self.down = is_down.then(|| (self.down.map_or(now, |(first, _)| first), now));
    }

    /// For how long every probe has failed; `None`: it is not down, or nobody calls it any more.
    pub fn down_for(&self, now: Instant) -> Option<Duration> {
        let (first, last) = self.down?;
        let is_known = now.saturating_duration_since(last) <= OPERATOR.longest + PROBE_TIMEOUT;
        is_known.then(|| last.saturating_duration_since(first))
    }
}

/// A pause as it can be meant. Errors of the server and of the account are asked for no longer than ours would be.
fn meant(class: ErrorClass, asked: Option<Duration>) -> Option<Duration> {
    let asked = asked?;
    match class {
        ErrorClass::Throttled | ErrorClass::Overloaded => (asked <= MAX_RETRY_AFTER).then_some(asked),
        _ if class.fault() == Fault::Operator => None,
        _ => (asked <= MAX_COOLING).then_some(asked),
    }
}

fn backoff(class: ErrorClass) -> Backoff {
    if class.fault() == Fault::Operator { OPERATOR } else { Backoff::default() }
}

/// Growing pauses between tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    pub longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: MIN_COOLING, longest: MAX_COOLING }
    }
}

impl Backoff {
    /// Full jitter: anything up to twice as long as the last time.
    pub fn after(self, times: u32) -> Duration {
        let longest = self.first.saturating_mul(1 << times.min(20)).min(self.longest);
        longest.mul_f64(rand::random_range(0.25..1.0))
    }
}
