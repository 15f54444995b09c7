//! Room for uploads. Each holds a few chunks and a hash of every custom_id in memory, so a process takes so many at once.

use std::time::Duration;

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use super::SubmitError;

/// A small upload is in within milliseconds: for a place that such a one has, it is worth waiting.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub struct Places {
    free: Semaphore,
    all: usize,
    patience: Duration,
}

impl Places {
    pub fn new(all: usize) -> Self {
        Self { free: Semaphore::new(all), all, patience: PATIENCE }
    }

    /// A place for one upload, free again when it is dropped.
    pub(crate) async fn take(&self) -> Result<SemaphorePermit<'_>, SubmitError> {
        match timeout(self.patience, self.free.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            // It is never closed: the time is up.
            Ok(Err(_)) | Err(_) => Err(SubmitError::Busy { uploads: self.all }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn beyond_the_last_place_an_upload_waits_and_is_refused() {
        let places = Places { patience: Duration::from_millis(20), ..Places::new(1) };
        let first = places.take().await.unwrap();
        assert!(matches!(places.take().await, Err(SubmitError::Busy { uploads: 1 })));
        let second = places.take();
        drop(first);
        assert!(second.await.is_ok());
    }
}
