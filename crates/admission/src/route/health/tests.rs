use super::*;
use crate::route::circuit::PROBE_POLL_INTERVAL;

/// A deployment as two teams call it. Times are in milliseconds since its beginning.
struct Trial {
    health: Health,
    start: Instant,
    deployment: Arc<str>,
}

fn team(name: &str) -> Arc<str> {
    Arc::from(name)
}

impl Trial {
    fn new() -> Self {
        Self { health: Health::default(), start: Instant::now(), deployment: team("d") }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    /// A call of the team that began then fails at `now`.
    fn fails(&self, name: &str, request: u64, class: ErrorClass, (began, now): (u64, u64)) -> Blame {
        self.refuses(name, request, class, None, (began, now))
    }

    fn refuses(
        &self,
        name: &str,
        request: u64,
        class: ErrorClass,
        seconds: Option<u64>,
        (began, now): (u64, u64),
    ) -> Blame {
        let failure = Failure {
            deployment: &self.deployment,
            team: &team(name),
            request,
            class,
            retry_after: seconds.map(Duration::from_secs),
            began: self.at(began),
        };
        self.health.failed_at(failure, self.at(now))
    }

    fn answers(&self, name: &str, (began, now): (u64, u64)) {
        let mut records = self.health.records();
        let (began, now) = (self.at(began), self.at(now));
        if let Some(record) = records.of.get_mut(&self.deployment) {
            record.answered(&self.deployment, &team(name), began, now);
            if record.is_healthy() {
                records.of.remove(&self.deployment);
            }
        }
    }

    fn takes(&self, name: &str, now: u64) -> bool {
        self.health.ready_at(&self.deployment, name, self.at(now)).is_ok()
    }
}

use Blame::{Deployment, Request, Unclear};
use ErrorClass::{Connect, Credential, ModelNotFound, Overloaded, QuotaExhausted, ServerError, Throttled};

#[test]
fn a_poisoned_job_is_its_own_fault_and_keeps_nobody_out() {
    let trial = Trial::new();
    for request in 0..200 {
        let now = request * 10;
        trial.fails("poison", request, ServerError, (now, now + 5));
        assert!(trial.takes("other", now + 6), "request {request}");
        trial.answers("other", (now + 6, now + 9));
    }
    // Others were answered meanwhile: each failure counts against its request, and nothing delays the next.
    assert_eq!(trial.fails("poison", 201, ServerError, (3_000, 3_001)), Request);
    assert!(trial.takes("poison", 3_002));
}

#[test]
fn a_blocked_prompt_closes_nothing() {
    for class in [Credential, ErrorClass::Forbidden, ModelNotFound] {
        let trial = Trial::new();
        assert_eq!(trial.fails("a", 7, class, (0, 1)), Unclear, "nobody else was heard of");
        for now in [10, 20, 30] {
            assert!(trial.takes("a", now) && trial.takes("b", now));
            trial.answers("a", (now, now + 1));
            assert_eq!(trial.fails("a", 7, class, (now + 2, now + 3)), Unclear);
        }
        assert!(trial.takes("a", 40) && trial.takes("b", 40), "{class:?}");
    }
}

#[test]
fn a_credential_is_bad_when_it_fails_others_too() {
    let trial = Trial::new();
    assert_eq!(trial.fails("a", 1, Credential, (0, 1)), Unclear);
    assert_eq!(trial.fails("a", 1, Credential, (2, 3)), Unclear, "the same request proves nothing");
    assert_eq!(trial.fails("a", 2, Credential, (4, 5)), Deployment);
    assert!(!trial.takes("a", 6));
    assert!(trial.takes("b", 6), "no other team has seen it fail");
    assert_eq!(trial.fails("b", 3, Credential, (6, 7)), Deployment);
    assert!(!trial.takes("b", 8) && !trial.takes("c", 8));
}

#[test]
fn one_request_alone_opens_no_breaker() {
    let trial = Trial::new();
    for n in 0..100 {
        assert_eq!(trial.fails("a", 1, ServerError, (n, n)), Request);
    }
    assert!(trial.takes("a", 100));
}

#[test]
fn server_errors_of_several_requests_in_a_row_are_an_outage() {
    let trial = Trial::new();
    let blamed: Vec<Blame> = (0..11).map(|n| trial.fails("a", n, ServerError, (n, n))).collect();
    assert_eq!(blamed.iter().filter(|blame| **blame == Deployment).count(), 2);
    assert!(!trial.takes("a", 11));
    assert!(trial.takes("b", 11), "it has not failed anybody else");
    assert_eq!(trial.fails("b", 99, ServerError, (11, 12)), Deployment, "now it has");
    assert!(!trial.takes("b", 13));
}

#[test]
fn what_a_provider_says_of_itself_holds_for_all() {
    for class in [Throttled, Overloaded, Connect, QuotaExhausted] {
        let trial = Trial::new();
        assert_eq!(trial.fails("a", 1, class, (0, 1)), Deployment);
        assert!(!trial.takes("a", 2) && !trial.takes("b", 2), "{class:?}");
    }
}

#[test]
fn a_request_that_alone_is_throttled_keeps_no_other_team_out() {
    let trial = Trial::new();
    trial.fails("large", 1, Throttled, (0, 1));
    trial.answers("small", (2_000, 2_010));
    assert!(trial.takes("small", 2_011));
    trial.fails("large", 1, Throttled, (2_020, 2_021));
    assert!(trial.takes("small", 2_022), "it answers everybody else");
    assert!(!trial.takes("large", 2_022));
}

#[test]
fn an_end_says_nothing_about_what_began_after_its_start() {
    let trial = Trial::new();
    trial.refuses("a", 1, Throttled, Some(5), (100, 200));
    for name in ["a", "b"] {
        trial.answers(name, (50, 300));
        assert!(!trial.takes("a", 400) && !trial.takes("b", 400), "the call of {name} was under way before");
    }
    assert!(!trial.takes("a", 5_199) && trial.takes("a", 5_200));
    trial.answers("a", (5_200, 5_300));
    assert!(trial.takes("b", 5_301));
    assert!(trial.health.records().of.is_empty(), "nothing is left of it");
}

#[test]
fn a_retry_after_is_honoured_to_the_end() {
    let trial = Trial::new();
    trial.refuses("a", 1, Throttled, Some(7), (0, 0));
    assert!(!trial.takes("b", 6_999) && trial.takes("b", 7_000));
}

/// What cannot be meant is a pause of ours; see [`super::super::circuit`].
#[test]
fn a_pause_that_cannot_be_meant_is_ours() {
    for (class, seconds, closed_for_most) in [
        (Throttled, 86_400, 1),
        (Overloaded, 1_893_456_000, 1),
        (Throttled, 601, 1),
        (Throttled, 600, 600),
        (Connect, 3_600, 1),
    ] {
        let trial = Trial::new();
        trial.refuses("a", 1, class, Some(seconds), (0, 0));
        assert!(!trial.takes("a", 1), "{class:?} {seconds}");
        assert!(trial.takes("a", closed_for_most * 1_000), "{class:?} {seconds}");
    }
}

#[test]
fn an_empty_account_is_probed_rarely() {
    let trial = Trial::new();
    trial.refuses("a", 1, QuotaExhausted, Some(1), (0, 0));
    assert!(!trial.takes("a", 7_000), "half a minute at the first time, and up to ten");
    assert!(trial.takes("a", 30_000));
    let shut = trial.health.ready_at("d", "a", trial.at(1)).unwrap_err();
    assert_eq!(obstacle("d", shut).reason, WaitReason::ProviderQuota);
}

#[test]
fn a_model_that_nobody_there_knows_is_waited_for() {
    let trial = Trial::new();
    assert_eq!(trial.fails("a", 1, ModelNotFound, (0, 0)), Unclear);
    assert_eq!(trial.fails("a", 1, ModelNotFound, (1, 1)), Deployment, "even when there is only one request");
    let shut = trial.health.ready_at("d", "a", trial.at(2)).unwrap_err();
    let obstacle = obstacle("d", shut);
    assert_eq!(obstacle.reason, WaitReason::ModelUnknown);
    assert!(obstacle.detail.contains("does not know"), "{obstacle:?}");
}

#[test]
fn one_probe_goes_first() {
    let trial = Trial::new();
    trial.refuses("a", 1, Overloaded, Some(0), (0, 0));
    assert_eq!(trial.health.ready("d", "a"), Ok(()));
    trial.health.started("d", "a");
    for name in ["a", "b"] {
        assert_eq!(trial.health.ready("d", name).map_err(|shut| shut.after), Err(PROBE_POLL_INTERVAL));
    }
    trial.health.succeeded(&team("d"), &team("a"), Instant::now());
    assert_eq!(trial.health.ready("d", "b"), Ok(()));
}

#[test]
fn a_probe_that_nobody_heard_the_end_of_makes_room_for_the_next() {
    let trial = Trial::new();
    trial.refuses("a", 1, Connect, Some(0), (10, 10));
    trial.health.started("d", "a");
    trial.health.abandoned("d", "a", trial.at(5));
    assert!(trial.health.ready("d", "a").is_err(), "it began before the deployment cooled down");
    trial.health.abandoned("d", "a", trial.at(10));
    assert!(trial.health.ready("d", "a").is_ok());
}

#[test]
fn a_call_of_before_the_cooling_is_not_the_probe() {
    let trial = Trial::new();
    trial.refuses("a", 1, Connect, Some(0), (1_000, 1_000));
    trial.health.started("d", "a");
    trial.fails("a", 2, Connect, (0, 1_010));
    assert_eq!(
        trial.health.ready("d", "a").map_err(|shut| shut.after),
        Err(PROBE_POLL_INTERVAL),
        "the probe is under way"
    );
    trial.fails("a", 3, Connect, (1_010, 1_010));
    assert!(!trial.takes("a", 1_011 + PROBE_POLL_INTERVAL.as_millis() as u64), "the probe failed");
}

#[test]
fn pauses_that_were_asked_for_make_ours_no_longer() {
    let trial = Trial::new();
    for _ in 0..10 {
        trial.refuses("a", 1, Throttled, Some(0), (0, 0));
        trial.health.started("d", "a");
    }
    trial.fails("a", 1, Connect, (0, 0));
    assert!(trial.takes("a", 500));
}

#[test]
fn a_deployment_is_down_for_as_long_as_its_probes_fail() {
    let trial = Trial::new();
    let (minute, ms) = (Duration::from_secs(60), 60_000);
    let fails = |class, after: u64| trial.refuses("a", 1, class, Some(0), (after, after));
    let down = || {
        let records = trial.health.records();
        let record = records.of.get(&trial.deployment)?;
        record.circuits().filter_map(|(_, circuit)| circuit.down_for(trial.at(6 * ms))).max().filter(|d| *d >= minute)
    };
    fails(Connect, 0);
    assert_eq!(down(), None, "one failure is no outage");
    fails(Connect, 2 * ms);
    assert_eq!(down(), Some(2 * minute));
    fails(Throttled, 3 * ms);
    assert_eq!(down(), None, "it is busy, not down");
    fails(Connect, 4 * ms);
    trial.answers("a", (5 * ms, 5 * ms));
    fails(Connect, 6 * ms);
    assert_eq!(down(), None);
}

#[test]
fn a_request_of_its_own_fault_opens_no_breaker() {
    let trial = Trial::new();
    for n in 0..100 {
        assert_eq!(trial.fails("a", n, ErrorClass::InvalidRequest, (n, n)), Request);
    }
    assert!(trial.takes("a", 100));
    assert!(trial.health.is_untroubled());
}

#[test]
fn a_deployment_is_taken_out_and_put_back_by_hand() {
    let (trial, now) = (Trial::new(), Utc::now());
    let order = |out_until, seconds| Order {
        deployment: "d".into(),
        out_until,
        ordered_at: now + chrono::TimeDelta::seconds(seconds),
    };
    let out = order(Some(now + chrono::TimeDelta::seconds(60)), 1);
    assert!(trial.health.obey(&[out], now, trial.start).is_empty());
    assert!(!trial.takes("a", 59_999) && trial.takes("a", 60_000));
    let standing = trial.health.standings().remove(0);
    assert_eq!((&*standing.deployment, standing.team, standing.shut.class), ("d", None, None));
    trial.refuses("a", 1, Throttled, Some(500), (0, 0));
    assert_eq!(trial.health.obey(&[order(None, 2)], now, trial.start), ["d"]);
    assert!(trial.takes("a", 1));
    assert!(trial.health.is_untroubled());
    trial.refuses("a", 1, Throttled, Some(500), (0, 0));
    assert!(trial.health.obey(&[order(None, 2)], now, trial.start).is_empty(), "once");
    assert!(!trial.takes("a", 1));
}
