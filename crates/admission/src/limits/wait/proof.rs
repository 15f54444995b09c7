//! A refused call's limit was really full: several replicas, random limits and calls, and every refusal is held against what the database
//! knew at some moment between the call's start and its refusal.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use chrono::{DateTime, Utc};
use store::PgPool;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    AdmissionControl, granter,
    limits::{Kind, Permit, Waiter, reload},
    testing,
};

const REPLICAS: i64 = 3;
const CALLERS: u64 = 6;
const CALLS: usize = 25;

/// Every row of `limit_use` and every level as it was written, in the order in which a limit's lock was held.
const HISTORY: &str = "
create table history (
    seq bigint generated always as identity, at timestamptz not null default clock_timestamp(), limit_id bigint not null,
    worker_id bigint, granted bigint, used bigint, wanted bigint, level float8);
create function keep_use() returns trigger language plpgsql as $$ begin
    insert into history (limit_id, worker_id, granted, used, wanted)
    values (new.limit_id, new.worker_id, new.granted, new.used, new.wanted);
    return null; end $$;
create function keep_level() returns trigger language plpgsql as $$ begin
    insert into history (limit_id, level) values (new.limit_id, new.level);
    return null; end $$;
create trigger keep after insert or update on limit_use for each row execute function keep_use();
create trigger keep after update on limit_rule for each row execute function keep_level();";

/// Reproducible by its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

#[derive(Debug)]
struct Refusal {
    scope: Arc<str>,
    kind: Kind,
    amount: i64,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    /// It had the word of all replicas.
    has_word: bool,
}

#[derive(sqlx::FromRow)]
struct Event {
    at: DateTime<Utc>,
    limit_id: i64,
    worker_id: Option<i64>,
    granted: Option<i64>,
    used: Option<i64>,
    wanted: Option<i64>,
    level: Option<f64>,
}

#[derive(Clone, Copy)]
struct Use {
    at: DateTime<Utc>,
    granted: i64,
    used: i64,
    wanted: i64,
}

impl Use {
    fn busy(self) -> i64 {
        self.used.max(self.granted.min(self.wanted))
    }
}

#[derive(Clone, Copy)]
struct Limit {
    id: i64,
    cap: i64,
}

type Limits = HashMap<(String, &'static str), Limit>;

async fn now(pool: &PgPool) -> DateTime<Utc> {
    sqlx::query_scalar("select clock_timestamp()").fetch_one(pool).await.unwrap()
}

/// Slots of a team, a key and a deployment that are too few for all callers, and rates whose buckets run dry.
async fn set_limits(pool: &PgPool, dice: &mut Dice) -> Limits {
    let mut limits = Limits::new();
    for (scope, kind, least, range) in [
        ("team:1", "slots", 3, 9),
        ("key:k", "rpm", 300, 3_000),
        ("deployment:d", "slots", 4, 12),
        ("deployment:d", "tpm", 20_000, 200_000),
    ] {
        let cap = least + dice.roll(range) as i64;
        store::limit::set(&mut pool.acquire().await.unwrap(), scope, kind, cap).await.unwrap();
        limits.insert((scope.to_owned(), kind), Limit { id: 0, cap });
    }
    for row in store::limit::active(&mut pool.acquire().await.unwrap()).await.unwrap() {
        let limit = limits.iter_mut().find(|((scope, kind), _)| *scope == row.scope && *kind == row.kind);
        limit.unwrap().1.id = row.limit_id;
    }
    limits
}

/// As an admission takes: refused once the limit is known to be full.
async fn take(control: &AdmissionControl, pool: &PgPool, scopes: &[&str], tokens: i64) -> Result<Permit, Refusal> {
    let from = now(pool).await;
    let since = Instant::now();
    loop {
        let turn = control.limits.turn();
        let refused = match control.limits.take(&control.limits.rules(scopes), tokens, Waiter::Caller) {
            Ok(permit) => return Ok(permit),
            Err(refused) => refused,
        };
        match control.limits.verdict(refused, since, Instant::now()) {
            Verdict::Again => control.limits.wait(turn).await,
            Verdict::Full(full) => {
                let amount = if full.refused.kind == Kind::Tpm { tokens } else { 1 };
                let (scope, kind) = (Arc::clone(&full.refused.scope), full.refused.kind);
                let has_word = since.elapsed() < PEER_ANSWER_TIMEOUT;
                return Err(Refusal { scope, kind, amount, from, to: now(pool).await, has_word });
            }
            Verdict::Unknown => panic!("the database is there"),
        }
    }
}

async fn caller(
    control: Arc<AdmissionControl>,
    pool: PgPool,
    seed: u64,
    under_way: Arc<AtomicI64>,
    cap: i64,
) -> Vec<Refusal> {
    let mut dice = Dice(seed);
    let mut refusals = Vec::new();
    for _ in 0..CALLS {
        tokio::time::sleep(Duration::from_millis(dice.roll(40))).await;
        let scopes: &[&str] =
            [&["team:1"][..], &["team:1", "key:k"], &["team:1", "key:k", "deployment:d"]][dice.roll(3) as usize];
        if dice.roll(8) == 0 {
            // A job's request comes, and comes again later.
            drop(control.limits.try_take(&control.limits.rules(scopes), 10).map(Permit::cancel));
            continue;
        }
        let tokens = 1 + dice.roll(600) as i64;
        match take(&control, &pool, scopes, tokens).await {
            Ok(mut permit) => {
                assert!(under_way.fetch_add(1, Ordering::SeqCst) < cap, "more calls than the team's slots");
                tokio::time::sleep(Duration::from_millis(dice.roll(60))).await;
                permit.settle_tokens(dice.roll(600) as i64);
                under_way.fetch_sub(1, Ordering::SeqCst);
            }
            Err(refusal) => refusals.push(refusal),
        }
    }
    refusals
}

/// Whether the limit was full at this moment: in use, or promised to a request that waits.
fn is_full(refusal: &Refusal, cap: i64, uses: &BTreeMap<i64, Use>, level: f64) -> bool {
    let is_known = |one: &Use| one.granted == 0 || one.at >= refusal.from;
    if refusal.has_word && !uses.values().all(is_known) {
        return false;
    }
    if refusal.kind == Kind::Slots {
        return uses.values().map(|one| one.busy()).sum::<i64>() >= cap;
    }
    let burst = (cap as f64 / 10.0).max(1.0);
    let held: i64 = uses.values().map(|one| one.granted - one.granted.min(one.wanted)).sum();
    level + (held as f64) < (refusal.amount as f64).min(burst)
}

async fn check(pool: &PgPool, limits: &Limits, refusals: &[Refusal]) {
    let events: Vec<Event> = sqlx::query_as("select * from history order by seq").fetch_all(pool).await.unwrap();
    let mut proven = vec![false; refusals.len()];
    for (limit, (_, kind), cap) in limits.iter().map(|(key, limit)| (limit.id, key, limit.cap)) {
        let (mut uses, mut level) = (BTreeMap::<i64, Use>::new(), cap as f64 / 10.0);
        for event in events.iter().filter(|event| event.limit_id == limit) {
            match (event.worker_id, event.granted, event.used, event.wanted) {
                (Some(worker), Some(granted), Some(used), Some(wanted)) => {
                    uses.insert(worker, Use { at: event.at, granted, used, wanted });
                }
                _ => level = event.level.unwrap_or(level),
            }
            let granted: i64 = uses.values().map(|one| one.granted).sum();
            assert!(*kind != "slots" || granted <= cap, "{granted} granted of {cap}");
            for (n, refusal) in refusals.iter().enumerate() {
                let is_of = limits[&(refusal.scope.to_string(), refusal.kind.as_str())].id == limit;
                if is_of && (refusal.from..=refusal.to).contains(&event.at) {
                    proven[n] |= is_full(refusal, cap, &uses, level);
                }
            }
        }
    }
    let unproven: Vec<&Refusal> =
        refusals.iter().zip(proven).filter(|(_, is)| !is).map(|(refusal, _)| refusal).collect();
    assert!(unproven.is_empty(), "refused while the limit had room: {unproven:?} of {limits:?}");
}

impl std::fmt::Debug for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.cap)
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_refused_calls_limit_was_full_in_a_view_newer_than_the_call(pool: PgPool) {
    sqlx::raw_sql(HISTORY).execute(&pool).await.unwrap();
    let mut refused = 0;
    for seed in [0x9e37_79b9, 0x85eb_ca6b, 0xc2b2_ae35] {
        sqlx::raw_sql("truncate limit_rule, limit_use, history, worker").execute(&pool).await.unwrap();
        let mut dice = Dice(seed);
        let limits = set_limits(&pool, &mut dice).await;
        let team_slots = limits[&("team:1".to_owned(), "slots")].cap;
        let stop = CancellationToken::new();
        let under_way = Arc::new(AtomicI64::new(0));
        let (mut replicas, mut callers) = (Vec::new(), Vec::new());
        for worker_id in 1..=REPLICAS {
            let control = testing::replica(&pool, worker_id);
            let mut conn = pool.acquire().await.unwrap();
            store::worker::register(&mut conn, worker_id, "h", &[], 1, Duration::from_secs(60)).await.unwrap();
            reload(&control).await.unwrap();
            replicas.push(tokio::spawn(granter::run_limits(Arc::clone(&control), stop.clone())));
            for _ in 0..CALLERS {
                let (seed, under_way) = (dice.roll(u64::MAX) | 1, Arc::clone(&under_way));
                callers.push(tokio::spawn(caller(Arc::clone(&control), pool.clone(), seed, under_way, team_slots)));
            }
        }
        let mut refusals = Vec::new();
        for caller in callers {
            refusals.extend(caller.await.unwrap());
        }
        stop.cancel();
        for replica in replicas {
            replica.await.unwrap();
        }
        refused += refusals.len();
        check(&pool, &limits, &refusals).await;
    }
    assert!(refused > 20, "only {refused} refusals: nothing was put to the test");
}
