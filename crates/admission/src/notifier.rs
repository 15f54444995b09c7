//! Tells the claimer of this process that there may be something to claim.

use std::sync::Arc;

use tokio::sync::Notify;

/// Wakes an idle claimer: work came, a slot became free, or a grant arrived. Clones wake the same claimer.
#[derive(Debug, Clone, Default)]
pub struct WorkNotifier(Arc<Notify>);

impl WorkNotifier {
    /// One waiting claimer wakes; with none waiting, the next [`Self::notified`] returns at once.
    pub fn notify(&self) {
        self.0.notify_one();
    }

    pub async fn notified(&self) {
        self.0.notified().await;
    }
}
