//! Since when a change of budgets holds on all replicas.

use std::time::Duration;

use chrono::{DateTime, Utc};
use store::budget::Follower;
use tokio::time::Instant;

use crate::AdmissionControl;

/// Whoever changes a budget waits no longer than this for replicas that do not answer; each looks four times a second.
const CONFIRMATION_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(25);

/// How far a change holds. A replica that follows it starts no call that does not fit, and spends nothing that it was granted before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// What was spent before is counted; until then nothing fits into the budget, on any replica.
    pub is_counted: bool,
    /// All that are alive.
    pub replicas: Vec<Follower>,
}

impl InForce {
    pub fn is_everywhere(&self) -> bool {
        self.is_counted && self.replicas.iter().all(|replica| replica.follows)
    }

    /// Since when it holds on all replicas, at the latest; `None`: not yet.
    pub fn since(&self) -> Option<DateTime<Utc>> {
        let since = self.replicas.iter().map(|replica| replica.since).max().flatten();
        since.filter(|_| self.is_everywhere())
    }
}

/// How far a revision holds. `name`: of the budget that was set; `None`: one was removed.
pub(super) async fn in_force(control: &AdmissionControl, revision: i64, name: Option<&str>) -> store::Result<InForce> {
    let mut conn = control.pools.api.acquire().await?;
    let is_counted = match name {
        Some(name) => store::budget::revision_of(&mut conn, name).await?.is_none_or(|(_, is_counted)| is_counted),
        None => true,
    };
    Ok(InForce { is_counted, replicas: store::budget::followers(&mut conn, revision).await? })
}

/// Waits until a revision holds on all replicas that are alive, for a bounded time.
pub(super) async fn wait_until_in_force(
    control: &AdmissionControl,
    revision: i64,
    name: Option<&str>,
) -> store::Result<InForce> {
    let until = Instant::now() + CONFIRMATION_TIMEOUT;
    loop {
        let found = in_force(control, revision, name).await?;
        if found.is_everywhere() || Instant::now() >= until {
            return Ok(found);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
