//! Cuts the calls of cancelled jobs, including jobs that another process cancelled.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::Engine;

const POLL_INTERVAL: Duration = Duration::from_millis(400);

pub async fn run(engine: Arc<Engine>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
        if let Err(error) = look(&engine).await {
            warn!(%error, "Could not read which running jobs were cancelled; trying again");
        }
    }
}

/// Asks for the jobs that run here only: as many as there are slots at most, whatever the queue holds.
async fn look(engine: &Engine) -> store::Result<()> {
    let running = engine.fence.jobs.jobs();
    if running.is_empty() {
        return Ok(());
    }
    let mut conn = engine.pools.work.acquire().await?;
    for job_id in store::job::cancelling(&mut conn, &running).await? {
        engine.fence.jobs.stop(job_id);
    }
    Ok(())
}
