//! How deployments fare, as this replica sees it. One that throttles or fails cools down; then a single call probes it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use domain::{
    attempt::{ErrorClass, Fault},
    waits::{Obstacle, WaitReason},
};
use tracing::{info, warn};

const FIRST_COOLING: Duration = Duration::from_millis(500);
const LONGEST_COOLING: Duration = Duration::from_secs(30);
/// A provider's own Retry-After is believed up to this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(600);
/// Failures in a row of the kind that may be the request's own fault, before the deployment is taken to be down.
const BREAKER_OPENS_AT: u32 = 10;
/// A probe that is not heard of for so long is sent again.
const PROBE_PATIENCE: Duration = Duration::from_secs(15);
/// Looked at again by those who wait for a probe's answer.
const PROBE_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy)]
enum State {
    Closed,
    Cooling { until: Instant },
    Probing { since: Instant },
}

#[derive(Debug)]
struct Record {
    state: State,
    /// Times it cooled since the last success, and when it last began to.
    coolings: u32,
    cooled_at: Option<Instant>,
    failures_in_a_row: u32,
    /// It cools because it fails, not because it is busy.
    is_down: bool,
    /// The first and the last of the failures for which it is down.
    down: Option<(Instant, Instant)>,
}

impl Default for Record {
    fn default() -> Self {
        Self { state: State::Closed, coolings: 0, cooled_at: None, failures_in_a_row: 0, is_down: false, down: None }
    }
}

impl Record {
    /// It answered, so it is up.
    fn answered(&mut self, deployment: &str) {
        if self.is_down {
            info!(deployment, "A deployment that was down answers again");
        }
        *self = Self::default();
    }
}

#[derive(Debug, Default)]
pub struct Health(Mutex<HashMap<Arc<str>, Record>>);

impl Health {
    fn records(&self) -> MutexGuard<'_, HashMap<Arc<str>, Record>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a call may start now; else when to ask again.
    pub fn ready(&self, deployment: &str) -> Result<(), Duration> {
        self.ready_at(deployment, Instant::now())
    }

    fn ready_at(&self, deployment: &str, now: Instant) -> Result<(), Duration> {
        match self.records().get(deployment).map_or(State::Closed, |record| record.state) {
            State::Closed => Ok(()),
            State::Cooling { until } if now < until => Err(until - now),
            State::Cooling { .. } => Ok(()),
            State::Probing { since } if now < since + PROBE_PATIENCE => Err(PROBE_PAUSE),
            State::Probing { .. } => Ok(()),
        }
    }

    /// What a deployment that is not ready makes others wait for.
    pub fn obstacle(&self, deployment: &str) -> Obstacle {
        if self.records().get(deployment).is_some_and(|record| record.is_down) {
            return Obstacle::new(WaitReason::ProviderDown, format!("provider {deployment} is down and cools down"));
        }
        Obstacle::new(WaitReason::ProviderCooling, format!("provider {deployment} cools down"))
    }

    /// A call begins. After cooling it is the probe, and nothing else starts until it is heard of.
    pub fn started(&self, deployment: &str) {
        if let Some(record) = self.records().get_mut(deployment)
            && !matches!(record.state, State::Closed)
        {
            record.state = State::Probing { since: Instant::now() };
        }
    }

    /// A call that had begun, or was about to, ends without an answer, for reasons that are not the deployment's. If it was the
    /// probe, the next call is.
    pub fn unheard(&self, deployment: &str, began: Instant) {
        if let Some(record) = self.records().get_mut(deployment)
            && matches!(record.state, State::Probing { .. })
            && record.cooled_at.is_none_or(|at| at <= began)
        {
            record.state = State::Cooling { until: Instant::now() };
        }
    }

    pub fn succeeded(&self, deployment: &str) {
        if let Some(record) = self.records().get_mut(deployment) {
            record.answered(deployment);
        }
    }

    /// Takes note of a failed call and of when it began. Tells whether the deployment is to blame: then the request's tries are not
    /// counted.
    pub fn failed(
        &self,
        deployment: &Arc<str>,
        class: ErrorClass,
        retry_after: Option<Duration>,
        began: Instant,
    ) -> bool {
        self.failed_at(deployment, class, retry_after, began, Instant::now())
    }

    fn failed_at(
        &self,
        deployment: &Arc<str>,
        class: ErrorClass,
        retry_after: Option<Duration>,
        began: Instant,
        now: Instant,
    ) -> bool {
        let mut records = self.records();
        let record = records.entry(Arc::clone(deployment)).or_default();
        match class.fault() {
            Fault::Request => {
                record.answered(deployment);
                return false;
            }
            Fault::Either => {
                record.failures_in_a_row += 1;
                if record.failures_in_a_row < BREAKER_OPENS_AT && matches!(record.state, State::Closed) {
                    return false;
                }
            }
            Fault::Outage => {}
        }
        // Calls that were under way when it began to cool say nothing new, unless they know of a longer wait.
        let cooling = match record.state {
            State::Cooling { until } => Some(until),
            // It is not the probe, which goes on.
            State::Probing { .. } if record.cooled_at.is_some_and(|at| began < at) => Some(now),
            _ => None,
        };
        let pause = match (retry_after, cooling) {
            (Some(asked), _) => asked.min(LONGEST_RETRY_AFTER),
            (None, Some(_)) => return true,
            (None, None) => Backoff::default().after(record.coolings),
        };
        // A pause that was asked for says nothing of how long one of ours should be.
        if cooling.is_none() && retry_after.is_none() {
            record.coolings += 1;
        }
        let is_down = !matches!(class, ErrorClass::Throttled | ErrorClass::Overloaded);
        if is_down && !record.is_down {
            warn!(
                deployment = &**deployment,
                error = class.as_str(),
                "A deployment is down; it is probed until it answers"
            );
        }
        record.is_down = is_down;
        record.down = record.is_down.then(|| (record.down.map_or(now, |(first, _)| first), now));
        let until = (now + pause).max(cooling.unwrap_or(now));
        record.state = State::Cooling { until };
        record.cooled_at = Some(now);
        true
    }

    /// Deployments whose every probe failed for at least so long, with that time. Of one that nobody calls any more nothing is known.
    pub fn down_for(&self, least: Duration) -> Vec<(Arc<str>, Duration)> {
        let lasted = |record: &Record| {
            let (first, last) = record.down.filter(|(_, last)| last.elapsed() <= LONGEST_RETRY_AFTER)?;
            Some(last.saturating_duration_since(first))
        };
        let records = self.records();
        let down = records.iter().filter_map(|(name, record)| Some((Arc::clone(name), lasted(record)?)));
        down.filter(|(_, lasted)| *lasted >= least).collect()
    }

    /// Deployments that take no calls now, with the time left.
    pub fn cooling(&self) -> Vec<(Arc<str>, Duration)> {
        let now = Instant::now();
        self.records()
            .iter()
            .filter_map(|(name, record)| match record.state {
                State::Cooling { until } if now < until => Some((Arc::clone(name), until - now)),
                _ => None,
            })
            .collect()
    }
}

/// Growing pauses between tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    pub longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: FIRST_COOLING, longest: LONGEST_COOLING }
    }
}

impl Backoff {
    /// Full jitter: anything up to twice as long as the last time.
    pub fn after(self, times: u32) -> Duration {
        let longest = self.first.saturating_mul(1 << times.min(20)).min(self.longest);
        longest.mul_f64(rand::random_range(0.25..1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_that_nobody_heard_the_end_of_makes_room_for_the_next() {
        let (health, now) = (Health::default(), Instant::now());
        health.failed_at(&deployment(), ErrorClass::Connect, Some(Duration::ZERO), now, now);
        assert!(health.ready("a").is_ok());
        health.started("a");
        assert_eq!(health.ready("a"), Err(PROBE_PAUSE));
        health.unheard("a", now - Duration::from_secs(1));
        assert_eq!(health.ready("a"), Err(PROBE_PAUSE), "it began before the deployment cooled down");
        health.unheard("a", now);
        assert!(health.ready("a").is_ok());
    }

    #[test]
    fn a_call_of_before_the_cooling_is_not_the_probe() {
        let (health, now) = (Health::default(), Instant::now());
        health.failed_at(&deployment(), ErrorClass::Connect, Some(Duration::ZERO), now, now);
        health.started("a");
        let later = now + Duration::from_millis(10);
        assert!(health.failed_at(&deployment(), ErrorClass::Connect, None, now - Duration::from_secs(1), later));
        assert_eq!(health.ready("a"), Err(PROBE_PAUSE), "the probe is under way");
        assert!(health.failed_at(&deployment(), ErrorClass::Connect, None, later, later));
        assert!(health.ready_at("a", later).is_err_and(|pause| pause > PROBE_PAUSE), "the probe failed");
    }

    fn deployment() -> Arc<str> {
        Arc::from("a")
    }

    #[test]
    fn a_retry_after_is_honoured_to_the_end() {
        let (health, now) = (Health::default(), Instant::now());
        assert!(health.failed_at(&deployment(), ErrorClass::Throttled, Some(Duration::from_secs(7)), now, now));
        assert_eq!(health.ready_at("a", now + Duration::from_secs(3)), Err(Duration::from_secs(4)));
        assert_eq!(health.ready_at("a", now + Duration::from_secs(7)), Ok(()));
    }

    #[test]
    fn pauses_that_were_asked_for_make_ours_no_longer() {
        let (health, now) = (Health::default(), Instant::now());
        for _ in 0..10 {
            health.failed_at(&deployment(), ErrorClass::Throttled, Some(Duration::ZERO), now, now);
            health.started("a");
        }
        health.failed_at(&deployment(), ErrorClass::Connect, None, now, now);
        assert!(health.ready_at("a", now + FIRST_COOLING).is_ok());
    }

    #[test]
    fn one_probe_goes_first() {
        let (health, now) = (Health::default(), Instant::now());
        health.failed_at(&deployment(), ErrorClass::Overloaded, Some(Duration::ZERO), now, now);
        assert_eq!(health.ready("a"), Ok(()));
        health.started("a");
        assert_eq!(health.ready("a"), Err(PROBE_PAUSE));
        health.succeeded("a");
        assert_eq!(health.ready("a"), Ok(()));
    }

    #[test]
    fn a_deployment_is_down_for_as_long_as_its_probes_fail() {
        let (health, now) = (Health::default(), Instant::now());
        let minute = Duration::from_secs(60);
        let fails = |class, after: Duration| {
            health.failed_at(&deployment(), class, Some(Duration::ZERO), now + after, now + after)
        };
        fails(ErrorClass::Connect, Duration::ZERO);
        assert_eq!(health.down_for(minute), [], "one failure is no outage");
        fails(ErrorClass::Connect, 2 * minute);
        assert_eq!(health.down_for(minute), [(deployment(), 2 * minute)]);
        fails(ErrorClass::Throttled, 3 * minute);
        assert_eq!(health.down_for(minute), [], "it is busy, not down");
        fails(ErrorClass::Connect, 4 * minute);
        health.succeeded("a");
        fails(ErrorClass::Connect, 6 * minute);
        assert_eq!(health.down_for(minute), []);
    }

    #[test]
    fn a_request_of_its_own_fault_opens_no_breaker() {
        let health = Health::default();
        for _ in 0..100 {
            assert!(!health.failed(&deployment(), ErrorClass::InvalidRequest, None, Instant::now()));
        }
        assert_eq!(health.ready("a"), Ok(()));
    }

    #[test]
    fn server_errors_in_a_row_are_an_outage() {
        let health = Health::default();
        let blamed: Vec<bool> =
            (0..11).map(|_| health.failed(&deployment(), ErrorClass::ServerError, None, Instant::now())).collect();
        assert_eq!(blamed.iter().filter(|blamed| **blamed).count(), 2);
        assert!(health.ready("a").is_err());
    }
}
