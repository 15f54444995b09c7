//! Room for uploads. Each holds a few chunks and a hash of every custom_id in memory, so a process takes so many at once.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::SubmitError;

/// A small upload is in within milliseconds: for a place that such a one has, it is worth waiting.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub struct Places {
    free: Arc<Semaphore>,
    all: usize,
    patience: Duration,
}

/// Free again when it is dropped.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "held, not looked at")] OwnedSemaphorePermit);

impl Places {
    pub fn new(all: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(all)), all, patience: PATIENCE }
    }

    /// A place for one upload.
    pub(crate) async fn take(&self) -> Result<Place, SubmitError> {
        match timeout(self.patience, Arc::clone(&self.free).acquire_owned()).await {
            Ok(Ok(place)) => Ok(Place(place)),
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
