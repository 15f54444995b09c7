//! How long a refused synchronous call waits. It is told that a limit is full once a view of the whole limit that is
//! newer than the call says so. Until then it waits, for a bounded time, for a round of the granter.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{Limiter, Refused, refused::Standing};

/// How long a call waits at a full limit: a slot may be freed when another call ends.
const ADMISSION_TIMEOUT: Duration = Duration::from_millis(100);
/// How long it waits for the reports of other replicas. The grant of a replica that does not report counts as used.
const PEER_ANSWER_TIMEOUT: Duration = Duration::from_millis(400);
/// How long it waits while nothing is known of the limit.
const UNKNOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest wait between two checks: no signal tells when a rate refills.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A limit that is known to be full.
#[derive(Debug, Clone)]
pub struct Full {
    pub refused: Refused,
    pub retry_after: Duration,
}

/// What a refused call does next.
#[derive(Debug)]
pub enum Verdict {
    /// It waits for a moment and tries again.
    Again,
    Full(Box<Full>),
    /// The database does not answer, so it is unknown whether the limit has capacity.
    Unknown,
}

impl Limiter {
    /// Decides what a refused call that began at `since` does next.
    pub fn verdict(&self, refused: Refused, since: Instant, now: Instant) -> Verdict {
        let waited = now.saturating_duration_since(since);
        let (standing, retry_after) = (refused.standing(since, now), refused.retry_after(now));
        let full = || Verdict::Full(Box::new(Full { refused, retry_after }));
        match standing {
            Standing::Full(Some(refill)) if waited + refill > ADMISSION_TIMEOUT => full(),
            Standing::Full(_) if waited >= ADMISSION_TIMEOUT => full(),
            Standing::Granted if waited >= PEER_ANSWER_TIMEOUT => full(),
            Standing::Unknown if waited >= UNKNOWN_TIMEOUT || self.signals.is_away() => Verdict::Unknown,
            _ => Verdict::Again,
        }
    }

    /// To be taken before the try that [`Self::wait`] follows.
    pub fn turn(&self) -> watch::Receiver<u64> {
        self.signals.turn()
    }

    /// Waits until a retry may succeed.
    pub async fn wait(&self, mut turn: watch::Receiver<u64>) {
        let _ = tokio::time::timeout(POLL_INTERVAL, turn.changed()).await;
    }
}

#[cfg(test)]
mod proof;
#[cfg(test)]
mod tests;
