//! Since when a change of budgets is enforced on all replicas.

use std::time::Duration;

use chrono::{DateTime, Utc};
use store::budget::Follower;
use tokio::time::Instant;

use crate::AdmissionControl;

/// How long the caller who changes a budget waits for replicas that do not answer. Each replica polls four times a
/// second.
const CONFIRMATION_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(25);

/// How far a change has been taken up. A replica that follows it starts no call that exceeds the new limit, and spends
/// no grant made before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// The earlier spend has been counted. Until then the budget admits no call, on any replica.
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

/// How far a revision has been taken up. `name`: the budget that was set; `None` if one was removed.
pub(super) async fn in_force(control: &AdmissionControl, revision: i64, name: Option<&str>) -> store::Result<InForce> {
    let mut conn = control.pools.api.acquire().await?;
    let is_counted = match name {
        Some(name) => store::budget::revision_of(&mut conn, name).await?.is_none_or(|(_, is_counted)| is_counted),
        None => true,
    };
    Ok(InForce { is_counted, replicas: store::budget::followers(&mut conn, revision).await? })
}

/// Waits, for a bounded time, until all live replicas enforce a revision.
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
