//! Wakes flows whose retries have become due, and the claimer when work arrives.

use std::{convert::Infallible, sync::Arc, time::Duration};

use store::ingest::WORK_CHANNEL;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::Engine;

const POLL_INTERVAL: Duration = Duration::from_millis(100);

pub async fn run(engine: Arc<Engine>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
        match wake(&engine).await {
            Ok(0) => {}
            Ok(_) => engine.work.notify(),
            Err(error) => {
                warn!(%error, "Due retries could not be woken; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn wake(engine: &Engine) -> store::Result<u64> {
    let mut tx = engine.pools.work.begin().await?;
    let woken = store::retry::wake_due(&mut tx).await?;
    tx.commit().await?;
    Ok(woken)
}

/// Notifies the claimer whenever work arrives. The claimer polls too, so a lost notification costs half a second.
pub async fn listen(engine: Arc<Engine>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Err(error) = hear(&engine) => warn!(%error, "Not listening for work; polling until that is mended"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn hear(engine: &Engine) -> store::Result<Infallible> {
    let mut listener = store::connect::listen(&engine.pools.work, WORK_CHANNEL).await?;
    loop {
        listener.recv().await?;
        engine.work.notify();
    }
}
