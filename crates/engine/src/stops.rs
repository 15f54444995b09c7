//! The jobs with requests in flight in this process, and how to stop them: the calls of a cancelled job are cut.

use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Default)]
pub struct Stops(Mutex<HashMap<i64, Running>>);

#[derive(Debug, Default)]
struct Running {
    requests: usize,
    stop: CancellationToken,
}

/// A request of a job that runs; until it is dropped.
#[derive(Debug)]
pub struct Entered<'s> {
    stops: &'s Stops,
    job_id: i64,
    stop: CancellationToken,
}

impl Stops {
    pub fn enter(&self, job_id: i64) -> Entered<'_> {
        let mut running = self.running();
        let job = running.entry(job_id).or_default();
        job.requests += 1;
        Entered { stops: self, job_id, stop: job.stop.clone() }
    }

    /// Stops what runs of the job; what is entered while some of it runs is stopped too.
    pub fn stop(&self, job_id: i64) {
        if let Some(job) = self.running().get(&job_id) {
            job.stop.cancel();
        }
    }

    /// The jobs that run here and were not stopped.
    pub fn jobs(&self) -> Vec<i64> {
        self.running().iter().filter(|(_, job)| !job.stop.is_cancelled()).map(|(id, _)| *id).collect()
    }

    fn running(&self) -> MutexGuard<'_, HashMap<i64, Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entered<'_> {
    pub fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut running = self.stops.running();
        if let Some(job) = running.get_mut(&self.job_id) {
            job.requests -= 1;
            if job.requests == 0 {
                running.remove(&self.job_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_stopped_alone_and_forgotten_with_its_last_request() {
        let stops = Stops::default();
        let (first, second, other) = (stops.enter(1), stops.enter(1), stops.enter(2));
        stops.stop(1);
        assert!(first.is_stopped() && second.is_stopped() && !other.is_stopped());
        assert!(stops.enter(1).is_stopped(), "it came in while others were being stopped");
        assert_eq!(stops.jobs(), [2]);
        drop((first, second));
        assert!(!stops.enter(1).is_stopped());
        drop(other);
        assert_eq!(stops.jobs(), Vec::<i64>::new());
        stops.stop(3);
    }
}
