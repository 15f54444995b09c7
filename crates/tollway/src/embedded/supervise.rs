//! `dev` owns its database: when the postmaster dies, by a kill -9 or for want of memory, it is started again.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{postmaster, site::Site, up};

const POLL_INTERVAL: Duration = Duration::from_millis(250);
const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// Ends when `release` is cancelled, never in the middle of a start.
pub async fn supervise(site: Arc<Site>, mut pid: i32, release: CancellationToken) {
    let mut pause = POLL_INTERVAL;
    while release.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        pause = POLL_INTERVAL;
        if postmaster::runs_in(pid, &site.data) {
            continue;
        }
        tracing::warn!(pid, "The embedded database died; starting it again");
        match up::bring_up(&site).await {
            Ok(up) => {
                pid = up.pid;
                tracing::warn!(pid, "The embedded database runs again");
            }
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "The embedded database cannot be started; trying again");
                pause = MAX_BACKOFF;
            }
        }
    }
}
