//! Fair shares: what teams share is the time of the slots, not the number of requests.

use e2e::{Setup, World, catalog, requests};
use serde_json::json;

fn lines(route: &str, count: usize) -> String {
    let line = |n| requests::line(&format!("line-{n}"), "/v1/chat/completions", &requests::chat_body(route, n));
    (1..=count).map(line).collect()
}

/// Calls that take ten times as long do not get ten times the machine.
#[tokio::test]
async fn a_team_with_long_calls_gets_no_more_than_its_part() {
    let world = World::start("long", |simulator| {
        let deployment = |name| catalog::deployment(simulator, name, "sim-chat", "") + &catalog::route(name, &[name]);
        Setup { slots: 20, ..Setup::new(catalog::PRICES.to_owned() + &deployment("quick") + &deployment("slow")) }
    })
    .await;
    world.simulator.set_latency("quick", 200).await;
    world.simulator.set_latency("slow", 2_000).await;
    let (hasty, patient) = (world.key("hasty", json!({})).await, world.key("patient", json!({})).await);
    let long = patient.submit("", lines("slow", 500)).await;
    let short = hasty.submit("", lines("quick", 400)).await;
    hasty.ended(&short).await;
    // While both had more to do than there were slots, but for the beginning.
    let percent = world
        .db
        .number(
            "with span as (
                 select min(requested_at) + interval '3 s' as low, max(requested_at) as high from ledger where team = 'hasty'
             ), used as (
                 select team, sum(least(completed_at, high) - greatest(requested_at, low)) as time
                 from ledger, span where completed_at > low and requested_at < high group by team
             )
             select round(100 * extract(epoch from (select time from used where team = 'patient'))
                          / extract(epoch from (select sum(time) from used)))::bigint",
        )
        .await;
    // Half of the slots' time is its part, of which less goes by between calls than the other's. By requests it would be 91 %.
    assert!((40..=72).contains(&percent), "the team with long calls had {percent} % of the time");
    patient.post(&format!("/api/v1/jobs/{long}/cancel"), "").await.expect(200);
    patient.ended(&long).await;
    world.check().await;
}

#[tokio::test]
async fn a_small_job_is_served_at_once_beside_a_large_one() {
    let world = World::start("small", |simulator| Setup { slots: 20, ..Setup::new(catalog::one(simulator, "")) }).await;
    world.simulator.set_latency("only", 100).await;
    let (large, small) = (world.key("large", json!({})).await, world.key("small", json!({})).await);
    let first = large.submit("", requests::chat(5_000)).await;
    world.simulator.has_seen(100).await;
    for _ in 0..5 {
        let job = small.submit("", requests::chat(1)).await;
        small.ended(&job).await;
    }
    let slowest = world.db.number("select max(queue_ms) from ledger where team = 'small'").await;
    assert!(slowest < 2_000, "a job of one request waited {slowest} ms");
    large.post(&format!("/api/v1/jobs/{first}/cancel"), "").await.expect(200);
    large.ended(&first).await;
    world.check().await;
}

/// Within a team the older job goes first.
#[tokio::test]
async fn of_a_teams_jobs_the_older_goes_first() {
    let world = World::start("age", |simulator| Setup { slots: 20, ..Setup::new(catalog::one(simulator, "")) }).await;
    world.simulator.set_latency("only", 50).await;
    let caller = world.key("search", json!({})).await;
    let older = caller.submit("", requests::chat(1_000)).await;
    let younger = caller.submit("", requests::chat(1_000)).await;
    caller.ended(&older).await;
    caller.ended(&younger).await;
    // By the ledger, as the younger job goes on while a test asks.
    let early = "select count(*) from ledger where job_id = (select max(job_id) from job)
                 and requested_at <= (select max(requested_at) from ledger where job_id = (select min(job_id) from job))";
    let early = world.db.number(early).await;
    assert!(early < 400, "{early} requests of the younger job began before the older one's last");
    world.check().await;
}
