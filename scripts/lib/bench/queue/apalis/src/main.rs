//! `queue-apalis URL ITEMS WORKERS BATCH`: puts ITEMS no-op jobs into apalis's PostgreSQL storage, drains them, and prints
//! the jobs per second from the first fetch until the last result is stored.

use std::time::{Duration, Instant};

use apalis::prelude::*;
use apalis_postgres::{Config, PostgresStorage, queries};
use sqlx::postgres::{PgPool, PgPoolOptions};

const QUEUE: &str = "bench";
/// Jobs put in by one statement.
const CHUNK: usize = 5_000;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Does nothing, and its answer is stored.
async fn handle(item: u64) -> Result<u64, BoxDynError> {
    Ok(item)
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let url = args.next().ok_or("the database's URL is missing")?;
    let mut number = || -> Result<usize, Failure> { Ok(args.next().ok_or("a number is missing")?.parse()?) };
    let (items, workers, batch) = (number()?, number()?, number()?);
    let pool = PgPoolOptions::new().max_connections(workers as u32 * 2 + 2).connect(&url).await?;
    PostgresStorage::<()>::setup(&pool).await?;
    fill(&pool, items).await?;

    let began = Instant::now();
    for n in 0..workers {
        let config = Config::default().queue(QUEUE).batch_size(batch);
        let backend = PostgresStorage::<u64>::new(&pool).with_config(config);
        let worker = WorkerBuilder::new(format!("bench-{n}")).backend(backend).parallelize(tokio::spawn).build(handle);
        tokio::spawn(worker.run());
    }
    while waiting(&pool).await? > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("{:.1}", items as f64 / began.elapsed().as_secs_f64());
    Ok(())
}

async fn fill(pool: &PgPool, items: usize) -> Result<(), Failure> {
    let mut conn = pool.acquire().await?;
    for first in (0..items).step_by(CHUNK) {
        let tasks = (first..items.min(first + CHUNK))
            .map(|n| TaskBuilder::new(n.to_string().into_bytes()).build())
            .collect::<Vec<_>>();
        queries::push_tasks(&mut *conn, QUEUE, tasks).await?;
    }
    sqlx::query("vacuum analyze apalis.jobs").execute(&mut *conn).await?;
    Ok(())
}

/// Stops at the first job that is not done, so that asking costs little.
async fn waiting(pool: &PgPool) -> Result<i64, Failure> {
    Ok(sqlx::query_scalar("select count(*) from (select 1 from apalis.jobs where status <> 'Done' limit 1) j")
        .fetch_one(pool)
        .await?)
}
