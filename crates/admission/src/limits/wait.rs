//! How long a synchronous call that was refused waits. It is told that a limit is full once that is known, by a view of the whole that is
//! newer than the call; while nothing is known it waits for a round of the granter, up to a bound.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{Limiter, Refused, refused::Standing};

/// A limit that is full may have room when a call ends: for so long a caller waits for that.
const ADMISSION_TIMEOUT: Duration = Duration::from_millis(100);
/// For so long it waits for the word of other replicas. What one that gives none was granted counts as used.
const PEER_ANSWER_TIMEOUT: Duration = Duration::from_millis(400);
/// And for so long to know anything.
const UNKNOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// One look after another takes no longer than this, for what no signal tells of: a rate that fills.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A limit that is known to be full.
#[derive(Debug, Clone)]
pub struct Full {
    pub refused: Refused,
    pub retry_after: Duration,
}

/// What a refused call does now.
#[derive(Debug)]
pub enum Verdict {
    /// It waits for a moment and tries again.
    Again,
    Full(Box<Full>),
    /// The database does not answer: nobody knows whether there is room.
    Unknown,
}

impl Limiter {
    /// What becomes of a refused call that began at `since`.
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

    /// Waits until it is worth trying again.
    pub async fn wait(&self, mut turn: watch::Receiver<u64>) {
        let _ = tokio::time::timeout(POLL_INTERVAL, turn.changed()).await;
    }
}

#[cfg(test)]
mod proof;
#[cfg(test)]
mod tests;
