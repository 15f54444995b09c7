//! Synchronous calls under way: each runs in a task of its own, which outlives a caller that hangs up, and is waited for when the
//! process ends.

use std::time::Duration;

use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFuture},
    task::TaskTracker,
};
use tracing::warn;

/// How long calls that were cut have to be booked and to answer their callers.
const CUT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Default)]
pub struct Calls {
    running: TaskTracker,
    cut: CancellationToken,
}

impl Calls {
    pub(super) fn spawn(&self, call: impl Future<Output = ()> + Send + 'static) {
        self.running.spawn(call);
    }

    /// Resolves when calls may run no longer.
    pub(super) fn cut_off(&self) -> WaitForCancellationFuture<'_> {
        self.cut.cancelled()
    }

    pub(super) fn token(&self) -> CancellationToken {
        self.cut.clone()
    }

    /// Calls under way, with and without a caller.
    pub fn len(&self) -> usize {
        self.running.len()
    }

    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Ends all calls now: each is booked by what is known of it, and its caller is told.
    pub fn cut(&self) {
        self.cut.cancel();
    }

    /// Waits until all have ended; those that have not within `drain` are cut.
    pub async fn end(&self, drain: Duration) {
        self.running.close();
        if tokio::time::timeout(drain, self.running.wait()).await.is_err() {
            warn!(calls = self.len(), "Some synchronous calls did not end in time and are cut");
            self.cut();
            let _ = tokio::time::timeout(CUT_TIMEOUT, self.running.wait()).await;
        }
    }
}
