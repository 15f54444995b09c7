//! The queue's SQL against a real PostgreSQL: what a claim may take, what fences, what is counted.

use std::time::Duration;

use domain::{JobId, ids::time_id};
use sqlx::{Acquire, PgConnection, PgPool, query, query_scalar};
use store::{
    claim::{self, ShareRow, Verdicts},
    job::{self, EndAs, Followed, Scope},
    lease::{self, Advance, LeaseKey, NewLease},
    limit::{self, Declared, Want},
    retry::{self, NewRetry},
};
use uuid::Uuid;

const WORKER: i64 = 7;

struct Queue {
    team_id: i64,
    job_id: i64,
    flow_id: i64,
}

/// A job of one flow with `items` requests, ready to be claimed.
async fn queue(conn: &mut PgConnection, team: &str, items: i32) -> Queue {
    let now = store::worker::database_now(conn).await.unwrap();
    let (job_id, flow_id) = (time_id(now), time_id(now));
    let team_id: i64 = query_scalar(
        "insert into team (name) values ($1) on conflict (name) do update set weight = 1 returning team_id",
    )
    .bind(team)
    .fetch_one(&mut *conn)
    .await
    .unwrap();
    query("insert into job (job_id, team_id, key_id, lane, state, accepted, flow_ids) values ($1, $2, 'k', 'bulk', 'queued', $3, array[$4])")
        .bind(job_id)
        .bind(team_id)
        .bind(i64::from(items))
        .bind(flow_id)
        .execute(&mut *conn)
        .await
        .unwrap();
    query("insert into item (flow_id, pos, line, est_in, custom_id, body) select $1, n, n + 1, 10, 'c' || n, '{}' from generate_series(0, $2 - 1) n")
        .bind(flow_id)
        .bind(items)
        .execute(&mut *conn)
        .await
        .unwrap();
    query("insert into flow (flow_id, job_id, team_id, lane, route, endpoint, key_id, priority, tail_pos, max_in, max_attempts) values ($1, $2, $3, 'bulk', 'r', 1, 'k', 0, $4, 10, 5)")
        .bind(flow_id)
        .bind(job_id)
        .bind(team_id)
        .bind(items)
        .execute(&mut *conn)
        .await
        .unwrap();
    store::share::wake(conn, &["bulk".to_owned()], &[team_id]).await.unwrap();
    Queue { team_id, job_id, flow_id }
}

/// Claims up to `n` of each flow it sees, as the engine does; gives what it leased.
async fn claim(conn: &mut PgConnection, n: i32) -> Vec<LeaseKey> {
    let mut tx = conn.begin().await.unwrap();
    let shares = claim::lock_shares(&mut tx, &["bulk".to_owned()], 4).await.unwrap();
    let flows = claim::flows(&mut tx, &shares, 8, 100, 100).await.unwrap();
    let (mut verdicts, mut leases, mut keys) = (Verdicts::default(), Vec::new(), Vec::new());
    for flow in &flows {
        let granted = n.min(flow.tail_pos - flow.next_pos);
        verdicts.flow_ids.push(flow.flow_id);
        verdicts.advances.push(granted);
        verdicts.flow_asleep.push(flow.next_pos + granted == flow.tail_pos);
        verdicts.flow_blocked_until.push(None);
        verdicts.flow_reasons.push(None);
        verdicts.flow_held_since.push(None);
        for pos in flow.next_pos..flow.next_pos + granted {
            let key = LeaseKey { flow_id: flow.flow_id, pos, epoch: 1 };
            leases.push(NewLease { key, attempt_no: 1, attempt_id: Uuid::now_v7(), deployment: "d", failures: 0 });
            keys.push(key);
        }
    }
    for share in &shares {
        verdicts.share_lanes.push(share.lane.clone());
        verdicts.share_teams.push(share.team_id);
        verdicts.share_levels.push(share.level + i64::from(n));
        verdicts.share_costs.push(share.cost);
        verdicts.share_blocked_until.push(None);
        verdicts.share_asleep.push(false);
    }
    claim::grant(&mut tx, &verdicts).await.unwrap();
    lease::insert(&mut tx, WORKER, leases.into_iter()).await.unwrap();
    tx.commit().await.unwrap();
    keys
}

async fn check_counts(conn: &mut PgConnection, id: i64) -> domain::Counts {
    let counts = job::get(conn, Scope::All, JobId(id)).await.unwrap().unwrap().counts;
    let ended = counts.succeeded + counts.failed + counts.cancelled + counts.expired;
    assert_eq!(counts.accepted, ended + counts.pending, "{counts:?}");
    counts
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_cursor_never_gives_a_request_twice(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let queue = queue(&mut conn, "a", 10).await;
    let mut seen: Vec<i32> = Vec::new();
    while seen.len() < 10 {
        seen.extend(claim(&mut conn, 3).await.iter().map(|key| key.pos));
    }
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
    assert!(claim(&mut conn, 3).await.is_empty());
    let bodies = claim::bodies(&mut conn, &[queue.flow_id], &[4], &[3]).await.unwrap();
    assert_eq!(bodies.iter().map(|body| body.line).collect::<Vec<_>>(), [5, 6, 7]);
    assert_eq!(check_counts(&mut conn, queue.job_id).await.pending, 10);
}

/// Each look moves a share back, also one that was granted nothing: a third team is reached past two that never move on.
#[sqlx::test(migrations = "../../migrations")]
async fn teams_at_their_cap_starve_nobody(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    for team in ["a", "b", "c"] {
        queue(&mut conn, team, 5).await;
    }
    let mut served: Vec<i64> = Vec::new();
    for _ in 0..6 {
        let mut tx = conn.begin().await.unwrap();
        let shares: Vec<ShareRow> = claim::lock_shares(&mut tx, &["bulk".to_owned()], 1).await.unwrap();
        let mut verdicts = Verdicts::default();
        verdicts.share_lanes.push("bulk".to_owned());
        verdicts.share_teams.push(shares[0].team_id);
        verdicts.share_levels.push(shares[0].level);
        verdicts.share_costs.push(0);
        verdicts.share_blocked_until.push(None);
        verdicts.share_asleep.push(false);
        claim::grant(&mut tx, &verdicts).await.unwrap();
        tx.commit().await.unwrap();
        served.push(shares[0].team_id);
    }
    let rounds: Vec<std::collections::BTreeSet<i64>> =
        served.chunks(3).map(|round| round.iter().copied().collect()).collect();
    assert!(rounds.iter().all(|round| round.len() == 3), "{served:?}");
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_stale_epoch_ends_and_advances_nothing(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    queue(&mut conn, "a", 1).await;
    let held = claim(&mut conn, 1).await[0];
    let stale = LeaseKey { epoch: 0, ..held };
    let advance = |key| Advance { key, attempt_no: 2, attempt_id: Uuid::now_v7(), deployment: "e".into(), failures: 1 };
    assert!(lease::advance(&mut conn, &[advance(stale)]).await.unwrap().is_empty());
    assert_eq!(lease::advance(&mut conn, &[advance(held)]).await.unwrap(), [held]);
    assert!(lease::end(&mut conn, &[stale]).await.unwrap().is_empty());
    assert_eq!(lease::end(&mut conn, &[held]).await.unwrap(), [held]);
    assert!(lease::end(&mut conn, &[held]).await.unwrap().is_empty(), "a lease ends once");
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_retry_waits_until_it_is_due_and_wakes_its_flow(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let queue = queue(&mut conn, "a", 1).await;
    let held = claim(&mut conn, 1).await[0];
    assert!(claim(&mut conn, 1).await.is_empty(), "the flow sleeps");
    let now = store::worker::database_now(&mut conn).await.unwrap();
    let mut tx = conn.begin().await.unwrap();
    lease::end(&mut tx, &[held]).await.unwrap();
    let later = NewRetry {
        flow_id: held.flow_id,
        pos: held.pos,
        epoch: 2,
        attempt_no: 1,
        failures: 0,
        due_at: now + Duration::from_secs(3600),
        last_error: None,
        last_deployment: None,
    };
    retry::insert(&mut tx, &[later]).await.unwrap();
    tx.commit().await.unwrap();
    let wake = async |conn: &mut PgConnection| {
        let mut tx = conn.begin().await.unwrap();
        let woken = retry::wake_due(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
        woken
    };
    assert_eq!(wake(&mut conn).await, 0);
    assert_eq!(check_counts(&mut conn, queue.job_id).await.pending, 1);
    query("update retry set due_at = now()").execute(&mut *conn).await.unwrap();
    assert_eq!(wake(&mut conn).await, 1);
    let mut tx = conn.begin().await.unwrap();
    let shares = claim::lock_shares(&mut tx, &["bulk".to_owned()], 4).await.unwrap();
    let flows = claim::flows(&mut tx, &shares, 8, 100, 100).await.unwrap();
    assert_eq!(flows[0].due_retries, 1);
    let taken = claim::take_retries(&mut tx, &[queue.flow_id], &[5]).await.unwrap();
    assert_eq!((taken[0].pos, taken[0].epoch), (0, 2));
}

#[sqlx::test(migrations = "../../migrations")]
async fn cancelling_ends_what_waits_and_counts_it(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let queue = queue(&mut conn, "a", 10).await;
    let id = JobId(queue.job_id);
    let held = claim(&mut conn, 4).await;
    let mut tx = conn.begin().await.unwrap();
    job::lock(&mut tx, Scope::Team(queue.team_id), id).await.unwrap().unwrap();
    assert_eq!(job::end_waiting(&mut tx, id, EndAs::Cancelled).await.unwrap(), 6);
    job::set_cancelling(&mut tx, id).await.unwrap();
    tx.commit().await.unwrap();
    let counts = check_counts(&mut conn, queue.job_id).await;
    assert_eq!((counts.cancelled, counts.pending), (6, 4));
    // Calls that were under way and failed leave retries behind; they are cancelled when the job ends.
    let mut tx = conn.begin().await.unwrap();
    lease::end(&mut tx, &held).await.unwrap();
    let now = store::worker::database_now(&mut tx).await.unwrap();
    let retries: Vec<NewRetry> = held
        .iter()
        .map(|key| NewRetry {
            flow_id: key.flow_id,
            pos: key.pos,
            epoch: 2,
            attempt_no: 1,
            failures: 0,
            due_at: now,
            last_error: None,
            last_deployment: None,
        })
        .collect();
    retry::insert(&mut tx, &retries).await.unwrap();
    tx.commit().await.unwrap();
    assert!(claim(&mut conn, 4).await.is_empty(), "nothing of it is claimed any more");
    assert_eq!(store::flow::drained(&mut conn, &[queue.job_id]).await.unwrap(), [queue.job_id]);
    let mut tx = conn.begin().await.unwrap();
    job::lock(&mut tx, Scope::All, id).await.unwrap();
    assert_eq!(store::flow::remove_ended_retries(&mut tx, queue.job_id).await.unwrap(), 4);
    job::count_ended(&mut tx, id, EndAs::Cancelled, 4).await.unwrap();
    let keep = Duration::from_secs(60);
    assert!(job::finish(&mut tx, &[id.0], keep, Followed::Ended).await.unwrap().is_empty(), "it has a flow");
    store::flow::remove_drained(&mut tx, &[id.0]).await.unwrap();
    assert_eq!(job::finish(&mut tx, &[id.0], keep, Followed::Ended).await.unwrap(), [id.0]);
    let again = job::finish(&mut tx, &[id.0], keep, Followed::Ended).await.unwrap();
    assert!(again.is_empty(), "terminal states never change");
    let shown = job::get(&mut tx, Scope::All, id).await.unwrap().unwrap();
    assert_eq!(shown.state, domain::JobState::Cancelled);
    tx.commit().await.unwrap();
    assert_eq!(check_counts(&mut conn, queue.job_id).await.cancelled, 10);
}

#[sqlx::test(migrations = "../../migrations")]
async fn grants_of_all_replicas_fit_the_cap_and_even_out(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let mut tx = conn.begin().await.unwrap();
    limit::apply(&mut tx, &[Declared { scope: "team:1".into(), kind: "slots", cap: 10 }]).await.unwrap();
    let limit_id = limit::active(&mut tx).await.unwrap()[0].limit_id;
    tx.commit().await.unwrap();
    for worker in [1, 2] {
        store::worker::register(&mut conn, worker, "h", &[], 1, Duration::from_secs(60)).await.unwrap();
    }
    let grant = async |conn: &mut PgConnection, worker: i64, used: i64, wanted: i64| {
        let mut tx = conn.begin().await.unwrap();
        let want = Want { limit_id, used, busy: wanted, ..Want::default() };
        let granted = limit::exchange(&mut tx, worker, &[want]).await.unwrap()[0].granted;
        tx.commit().await.unwrap();
        let sum: i64 = query_scalar("select sum(granted)::bigint from limit_use").fetch_one(&mut *conn).await.unwrap();
        assert!(sum <= 10, "{sum} granted of 10");
        granted
    };
    assert_eq!(grant(&mut conn, 1, 0, 50).await, 10);
    assert_eq!(grant(&mut conn, 2, 0, 50).await, 0, "nothing is left while the first uses it");
    assert_eq!(grant(&mut conn, 1, 10, 50).await, 5, "half of it is the other's as soon as calls end");
    assert_eq!(grant(&mut conn, 2, 0, 50).await, 0, "what runs is not given twice");
    assert_eq!(grant(&mut conn, 1, 3, 50).await, 5, "what became free is shared");
    assert_eq!(grant(&mut conn, 2, 0, 50).await, 5);
    assert_eq!(grant(&mut conn, 1, 0, 0).await, 0);
    assert_eq!(grant(&mut conn, 2, 5, 50).await, 10);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_minute_sees_no_more_than_its_rate(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    limit::apply(&mut conn, &[Declared { scope: "key:k".into(), kind: "rpm", cap: 60 }]).await.unwrap();
    let limit_id = limit::active(&mut conn).await.unwrap()[0].limit_id;
    let take = async |conn: &mut PgConnection, wanted: i64| {
        let mut tx = conn.begin().await.unwrap();
        let want = Want { limit_id, busy: wanted, largest: 1, ..Want::default() };
        let granted = limit::exchange(&mut tx, 1, &[want]).await.unwrap()[0].granted;
        // It is spent.
        query("update limit_use set granted = 0").execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        granted
    };
    assert_eq!(take(&mut conn, 4).await, 4);
    assert_eq!(take(&mut conn, 4).await, 2, "the bucket holds a tenth of the cap");
    assert_eq!(take(&mut conn, 4).await, 0);
    // A minute later by the bucket's own clock.
    query("update limit_rule set level_at = level_at - interval '60 s'").execute(&mut *conn).await.unwrap();
    let mut minute = 6;
    while let taken @ 1.. = take(&mut conn, 1_000).await {
        minute += taken;
    }
    assert!((10..=60).contains(&minute), "{minute} in a minute");
}
