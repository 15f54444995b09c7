//! Deployments that an operator takes out or puts back in by hand, on all replicas.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use domain::{Action, Object};
use serde_json::json;
use store::{
    audit::{self, Change},
    deployment_order::{self, Order},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::AdmissionControl;

const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The longest that a deployment is taken out for; what is gone for longer is removed from the configuration.
pub const LONGEST_OUTAGE: Duration = Duration::from_secs(30 * 24 * 3_600);

#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    #[error("there is no deployment {0:?}; `tollway deployments` lists them")]
    NotFound(String),
    #[error("for_s must be from 1 to {max} (got {0})", max = LONGEST_OUTAGE.as_secs())]
    BadTime(u64),
    #[error(transparent)]
    Unavailable(#[from] store::Error),
}

/// Takes the deployment out: no replica calls it until then.
pub async fn cool(control: &AdmissionControl, name: &str, seconds: u64, by: &str) -> Result<DateTime<Utc>, OrderError> {
    let out_for = Duration::from_secs(seconds);
    if seconds == 0 || out_for > LONGEST_OUTAGE {
        return Err(OrderError::BadTime(seconds));
    }
    check(control, name)?;
    let mut tx = control.pools.api.begin().await?;
    let until = deployment_order::take_out(&mut tx, name, out_for).await?;
    let change = Change {
        object: Object::Deployment(name.to_owned()),
        key_id: Some(by),
        action: Action::Cool,
        details: json!({ "until": until }),
    };
    audit::record_change(&mut tx, change).await?;
    tx.commit().await?;
    follow_soon(control).await;
    Ok(until)
}

/// Puts it back in: what the replicas know of its failures is forgotten, and calls start at once.
pub async fn release(control: &AdmissionControl, name: &str, by: &str) -> Result<(), OrderError> {
    check(control, name)?;
    let mut tx = control.pools.api.begin().await?;
    deployment_order::release(&mut tx, name).await?;
    let change = Change {
        object: Object::Deployment(name.to_owned()),
        key_id: Some(by),
        action: Action::Release,
        details: json!({}),
    };
    audit::record_change(&mut tx, change).await?;
    tx.commit().await?;
    follow_soon(control).await;
    Ok(())
}

fn check(control: &AdmissionControl, name: &str) -> Result<(), OrderError> {
    let catalog = control.catalog.get();
    catalog.deployment(name).map(drop).ok_or_else(|| OrderError::NotFound(name.chars().take(64).collect()))
}

/// Applies the change on this replica at once. The others poll for it, and so would this one.
async fn follow_soon(control: &AdmissionControl) {
    let _ = look(control).await;
    control.work.notify();
}

/// Follows what is ordered on any replica.
pub async fn follow(control: Arc<AdmissionControl>, stop: CancellationToken) {
    loop {
        if let Err(error) = look(&control).await {
            warn!(%error, "Could not read which deployments were taken out by hand; trying again");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
    }
}

async fn look(control: &AdmissionControl) -> store::Result<()> {
    let orders = deployment_order::all(&mut *control.pools.work.acquire().await?).await?;
    let released = control.health.obey(&orders, control.clock.now(), Instant::now());
    for name in &released {
        info!(deployment = name, "A deployment was put back in by hand");
    }
    if !released.is_empty() {
        control.work.notify();
    }
    Ok(())
}

/// The effect of the orders at `now`: which deployments are out until when, and which were released since the last
/// poll.
pub(super) fn standing(
    orders: &[Order],
    seen: Option<DateTime<Utc>>,
    (now, local): (DateTime<Utc>, Instant),
) -> (HashMap<Arc<str>, Instant>, Vec<String>) {
    let left = |order: &Order| (order.out_until? - now).to_std().ok();
    let out = orders.iter().filter_map(|order| Some((Arc::from(order.deployment.as_str()), local + left(order)?)));
    // What was released before this process began is nothing that it has to forget.
    let is_news = |order: &&Order| order.out_until.is_none() && seen.is_some_and(|seen| order.ordered_at > seen);
    let released = orders.iter().filter(is_news).map(|order| order.deployment.clone());
    (out.collect(), released.collect())
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn an_order_holds_until_its_time_and_a_release_is_followed_once() {
        let (now, local) = (DateTime::UNIX_EPOCH + TimeDelta::days(1), Instant::now());
        let order = |name: &str, out_until: Option<i64>, age: i64| Order {
            deployment: name.into(),
            out_until: out_until.map(|seconds| now + TimeDelta::seconds(seconds)),
            ordered_at: now - TimeDelta::seconds(age),
        };
        let orders = [order("out", Some(60), 5), order("over", Some(-1), 50), order("in", None, 5)];
        let (out, released) = standing(&orders, Some(now - TimeDelta::seconds(10)), (now, local));
        assert_eq!(out, HashMap::from([(Arc::from("out"), local + Duration::from_secs(60))]));
        assert_eq!(released, ["in"]);
        for seen in [None, Some(now)] {
            assert!(standing(&orders, seen, (now, local)).1.is_empty(), "{seen:?}");
        }
    }
}
