//! Looking for something until it is there.

use std::time::{Duration, Instant};

/// What happens at once on an idle machine is given so long on a busy one.
pub const SOON: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Looks until `look` gives something. `what` completes "waited in vain for".
pub async fn until<T>(what: &str, patience: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} in vain for {what}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
