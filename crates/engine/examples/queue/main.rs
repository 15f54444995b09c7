//! The bare queue: submits requests whose calls do nothing, drains them, and prints how many a second it took from the start of
//! the claims until the last result was stored. All is as in the gateway (leases, limits, results, ledger) but the provider, which
//! answers in process.
//!
//! `queue URL ITEMS SLOTS`: URL is that of an empty database.

mod gateway;
mod nothing;

use std::time::Duration;

use domain::{Lane, job::JobParams};
use engine::{
    Running,
    submit::{Format, Submission, Submitter, submit},
};
use tokio::time::{Instant, sleep};

/// As in the gateway.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let mut arg = |what: &'static str| args.next().ok_or(what);
    let url = arg("the database's URL is missing")?;
    let items: usize = arg("the number of items is missing")?.parse()?;
    let slots: usize = arg("the number of slots is missing")?.parse()?;

    let (engine, team_id, intents, settlements) = gateway::build(&url, slots).await?;
    let who = Submitter { team_id, key_id: "bench", lanes: &[Lane::bulk()] };
    let text = lines(items);
    let submission = Submission {
        params: JobParams::default(),
        idempotency_key: None,
        format: Format::Jsonl,
        body: text.as_bytes(),
    };
    let accepted = submit(&engine, who, submission).await?;
    sqlx::query("vacuum analyze item").execute(&engine.pools.work).await?;

    let began = Instant::now();
    let running = Running::start(&engine, "worker".parse()?, intents, settlements);
    let ended = "select finished_at is not null from job where job_id = $1";
    while !sqlx::query_scalar::<_, bool>(ended).bind(accepted.job_id.0).fetch_one(&engine.pools.api).await? {
        sleep(Duration::from_millis(20)).await;
    }
    let took = began.elapsed();
    let stored: i64 = sqlx::query_scalar("select count(*) from result where job_id = $1 and ok")
        .bind(accepted.job_id.0)
        .fetch_one(&engine.pools.api)
        .await?;
    if stored != items as i64 {
        return Err(format!("{stored} of {items} results were stored").into());
    }
    println!("{:.1}", items as f64 / took.as_secs_f64());
    running.end(&engine, Duration::ZERO).await;
    Ok(())
}

fn lines(items: usize) -> String {
    let line = |n| {
        format!(
            r#"{{"custom_id":"{n}","method":"POST","url":"/v1/chat/completions","body":{{"model":"nothing","messages":[{{"role":"user","content":"{n}"}}]}}}}{}"#,
            '\n'
        )
    };
    (0..items).map(line).collect()
}
