//! Random faults, many scenarios side by side, each from its seed: money is bounded on both sides, and so is work.
//!
//! A scenario has two teams on a route of two deployments. One submits a job with poisoned lines under a hard budget, the other a job
//! and synchronous calls. The provider fails at random, callers hang up, jobs are cancelled, Tollway itself fails.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use domain::{ErrorClass, catalog::LaneRule};
use futures::{StreamExt, stream};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use store::{PgPool, job::Scope};

use super::world::{NOWHERE, Scripted, ScriptedOutcome, Seen, World, body, catalog, line, used};
use crate::jobs;

const SIDE_BY_SIDE: usize = 32;
/// Pico-USD: enough for some of a scenario's calls.
const BUDGET_USD: &str = "0.0006";
const BUDGET: i64 = 600_000_000;
const MOST_CALLS: usize = 100;

struct Fates {
    rng: StdRng,
    /// How likely a fault is, in percent.
    weather: u32,
    /// What becomes of poisoned requests.
    poison: ErrorClass,
}

impl Fates {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let poisons = [ErrorClass::ServerError, ErrorClass::Garbage, ErrorClass::Forbidden, ErrorClass::InvalidRequest];
        Self { weather: rng.random_range(0..40), poison: poisons[rng.random_range(0..poisons.len())], rng }
    }

    fn next(&mut self, body: &str) -> (Duration, ScriptedOutcome) {
        use ErrorClass::{
            Connect, Cut, Forbidden, Garbage, InvalidRequest, Overloaded, ReadTimeout, ServerError, Throttled,
        };
        let after = Duration::from_millis(self.rng.random_range(0..6));
        if body.contains("poison") {
            return (after, ScriptedOutcome::Fail(self.poison));
        }
        if self.rng.random_range(0..100) >= self.weather {
            return (after, ScriptedOutcome::Answer);
        }
        let refuse = |class| ScriptedOutcome::Refuse { class, retry_after: Duration::from_millis(5) };
        let outcomes = [
            ScriptedOutcome::Fail(ServerError),
            ScriptedOutcome::Fail(Garbage),
            ScriptedOutcome::FailUsing(Garbage, used()),
            ScriptedOutcome::FailUsing(ServerError, used()),
            ScriptedOutcome::Fail(Cut),
            ScriptedOutcome::Fail(ReadTimeout),
            ScriptedOutcome::Fail(Forbidden),
            ScriptedOutcome::Fail(InvalidRequest),
            refuse(Throttled),
            refuse(Overloaded),
            refuse(Connect),
            ScriptedOutcome::Panic,
        ];
        (after, outcomes[self.rng.random_range(0..outcomes.len())].clone())
    }
}

/// Whether the provider may have charged for it.
fn may_be_charged(outcome: &ScriptedOutcome) -> bool {
    match outcome {
        ScriptedOutcome::Answer | ScriptedOutcome::FailUsing(..) | ScriptedOutcome::Panic | ScriptedOutcome::Hang => {
            true
        }
        ScriptedOutcome::Fail(class) => class.may_be_billed(),
        ScriptedOutcome::Refuse { .. } => false,
    }
}

fn spec(seeds: u64) -> Value {
    let names: Vec<[String; 3]> =
        (0..seeds).map(|seed| [format!("d{seed}-a"), format!("d{seed}-b"), format!("r{seed}")]).collect();
    let deployments: Vec<(&str, &str)> =
        names.iter().flat_map(|[a, b, _]| [(a.as_str(), NOWHERE), (b.as_str(), NOWHERE)]).collect();
    let on: Vec<[&str; 2]> = names.iter().map(|[a, b, _]| [a.as_str(), b.as_str()]).collect();
    let routes: Vec<(&str, &[&str])> =
        names.iter().zip(&on).map(|([_, _, route], on)| (route.as_str(), &on[..])).collect();
    let mut spec = catalog(&deployments, &routes);
    let budget = |seed| {
        let rule = json!({"scope": {"team": format!("x{seed}")}, "limit_usd": BUDGET_USD, "window": "total"});
        (format!("b{seed}"), rule)
    };
    spec["budgets"] = (0..seeds).map(budget).collect::<serde_json::Map<_, _>>().into();
    spec
}

#[derive(Debug, sqlx::FromRow)]
struct Row {
    attempt_id: uuid::Uuid,
    request_id: String,
    job_id: Option<i64>,
    team: String,
    record_kind: String,
    is_final: bool,
    contracted_cost: Option<i64>,
    reserved: Option<i64>,
}

/// The jobs of a scenario, with their requests' most attempts.
async fn scenario(world: &World, seed: u64) -> [(i64, usize); 2] {
    let mut rng = StdRng::seed_from_u64(seed ^ 0x5eed);
    let (x, y) = (world.team(&format!("x{seed}")).await, world.team(&format!("y{seed}")).await);
    let route = format!("r{seed}");
    let lines = |count: usize, poison: f64, rng: &mut StdRng| -> String {
        let text = |n, rng: &mut StdRng| format!("{} {n}", if rng.random_bool(poison) { "poison" } else { "sound" });
        (0..count).map(|n| line(&format!("l{n}"), &route, &text(n, rng))).collect()
    };
    let max_attempts = rng.random_range(1..4);
    let poisoned = world.submit(&x, max_attempts, &lines(6, 0.5, &mut rng)).await;
    let other = world.submit(&y, 3, &lines(4, 0.0, &mut rng)).await;
    for n in 0..4 {
        let timeout = Duration::from_millis(if rng.random_bool(0.3) { rng.random_range(0..6) } else { 5_000 });
        let _ = tokio::time::timeout(timeout, world.call(&y, body(&route, &format!("call {n}")))).await;
    }
    let by = jobs::By { scope: Scope::All, key_id: "k" };
    if rng.random_bool(0.3) {
        let _ = jobs::cancel(&world.engine, by, other).await;
    }
    assert!(world.ended(other, Duration::from_secs(20)).await.is_some(), "seed {seed}: {:?}", world.job(other).await);
    // One that its budget keeps waiting ends by being cancelled.
    if world.ended(poisoned, Duration::from_millis(2_500)).await.is_none() {
        // It may have ended in this moment.
        let _ = jobs::cancel(&world.engine, by, poisoned).await;
    }
    assert!(world.ended(poisoned, Duration::from_secs(20)).await.is_some(), "seed {seed}");
    [(poisoned.0, max_attempts as usize), (other.0, 3)]
}

async fn rows(pool: &PgPool) -> Vec<Row> {
    let query =
        "select attempt_id, request_id, job_id, team, record_kind, is_final, contracted_cost, reserved from ledger";
    sqlx::query_as(query).fetch_all(pool).await.unwrap()
}

fn check(seen: &[Seen], rows: &[Row], limits: &HashMap<i64, usize>) {
    let outcomes: HashMap<_, _> = seen.iter().map(|seen| (seen.attempt_id, seen)).collect();
    assert_eq!(outcomes.len(), seen.len(), "one attempt was called twice");
    let mut booked: HashMap<_, i64> = HashMap::new();
    let mut calls: HashMap<&str, usize> = HashMap::new();
    let mut paid: HashMap<&str, usize> = HashMap::new();
    let mut finals: HashMap<&str, usize> = HashMap::new();
    let mut spent: HashMap<&str, i64> = HashMap::new();
    for row in rows {
        *booked.entry(row.attempt_id).or_default() += i64::from(row.record_kind == "original");
        *spent.entry(&row.team).or_default() += row.contracted_cost.unwrap_or(0);
        let Some(call) = outcomes.get(&row.attempt_id) else { continue };
        *calls.entry(&row.request_id).or_default() += 1;
        let is_paid = may_be_charged(&call.outcome);
        *paid.entry(&row.request_id).or_default() += usize::from(is_paid);
        *finals.entry(&row.request_id).or_default() += usize::from(row.is_final);
        let most = if is_paid { row.reserved.unwrap_or(0) } else { 0 };
        assert!(row.contracted_cost.unwrap_or(0) <= most, "more than could be charged: {row:?} {call:?}");
    }
    for call in seen {
        assert_eq!(booked.get(&call.attempt_id), Some(&1), "{call:?}");
    }
    for row in rows {
        let request = row.request_id.as_str();
        let most = row.job_id.map_or(LaneRule::MAX_ATTEMPTS as usize, |job| limits[&job]);
        assert!(paid.get(request).is_none_or(|paid| *paid <= most), "{request}: {paid:?} paid of {most}");
        assert!(calls.get(request).is_none_or(|calls| *calls <= MOST_CALLS), "{request}");
        if row.job_id.is_none() {
            assert_eq!(finals.get(request), Some(&1), "a synchronous call ends as one final row: {row:?}");
        }
    }
    for (team, spent) in spent {
        assert!(!team.starts_with('x') || spent <= BUDGET, "{team} spent {spent}");
    }
}

async fn run(pool: PgPool, seeds: u64) {
    let outcomes: Vec<Mutex<Fates>> = (0..seeds).map(|seed| Mutex::new(Fates::new(seed))).collect();
    let provider = Scripted::new(move |deployment, body| {
        let seed: usize = deployment[1..].split('-').next().and_then(|seed| seed.parse().ok()).unwrap();
        outcomes[seed].lock().unwrap().next(body)
    });
    // Budgets name teams that exist.
    let teams = "insert into team (name, weight) select 'x' || n, 1 from generate_series(0, $1) n";
    sqlx::query(teams).bind(seeds as i64).execute(&pool).await.unwrap();
    let world = World::scripted(&pool, spec(seeds), &provider).await;
    let scenarios = stream::iter(0..seeds).map(|seed| scenario(&world, seed)).buffer_unordered(SIDE_BY_SIDE);
    let limits: HashMap<i64, usize> = scenarios.flat_map(stream::iter).collect().await;
    let engine = world.end().await;
    let booked = rows(&pool).await;
    check(&provider.seen.lock().unwrap(), &booked, &limits);
    assert_eq!(engine.control.budgets.under_way(), 0, "nothing is reserved when nothing runs");
}

#[sqlx::test(migrations = "../../migrations")]
async fn money_and_work_are_bounded_whatever_fails(pool: PgPool) {
    run(pool, 200).await;
}

#[sqlx::test(migrations = "../../migrations")]
#[ignore = "takes minutes; run with --full"]
async fn money_and_work_are_bounded_whatever_fails_ten_thousand_times(pool: PgPool) {
    run(pool, 10_000).await;
}
