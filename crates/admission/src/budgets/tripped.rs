//! Jobs that a sub-budget refused for good, as an event for the code that pauses jobs: admission itself knows no jobs.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;

use super::{Budgets, Refusal};

/// Each job with its last refusal.
#[derive(Debug, Default)]
pub(super) struct Tripped {
    jobs: Mutex<BTreeMap<i64, Refusal>>,
    any: Notify,
}

impl Tripped {
    pub fn push(&self, job: i64, refusal: Refusal) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).insert(job, refusal);
        self.any.notify_one();
    }

    #[cfg(test)]
    pub fn take(&self) -> BTreeMap<i64, Refusal> {
        std::mem::take(&mut *self.jobs.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Budgets {
    /// Waits until sub-budgets refuse jobs for good, and returns these jobs. A job that keeps asking is returned again.
    pub async fn tripped(&self) -> BTreeMap<i64, Refusal> {
        loop {
            let notified = self.tripped.any.notified();
            let jobs = std::mem::take(&mut *self.tripped.jobs.lock().unwrap_or_else(PoisonError::into_inner));
            if !jobs.is_empty() {
                return jobs;
            }
            notified.await;
        }
    }
}
