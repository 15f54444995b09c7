//! The end of a lane that is no longer declared. It takes no new work, and its requests are served under the rule that
//! it had: removing a lane from the file strands no accepted job.

use std::time::Duration;

use admission::limits;
use domain::{
    Action, Catalog, Object,
    catalog::{LaneClass, LaneRule},
};
use serde_json::json;
use store::audit::{self, Change};

use crate::{
    Engine,
    config::{self, merged},
    host::hostname,
};

/// How long a removed lane is kept even if it is empty: a replica that does not know of the removal yet may still
/// accept a job into it.
const REMOVAL_GRACE: Duration = Duration::from_secs(60);

/// Forgets closing lanes in which nothing is left, and takes up such as an earlier version stranded work in.
pub async fn forget_drained(engine: &Engine) -> store::Result<()> {
    let mut tx = engine.pools.work.begin().await?;
    store::config::lock(&mut tx).await?;
    if !store::config::is_older_than(&mut tx, REMOVAL_GRACE).await? {
        return Ok(());
    }
    let Some(active) = store::config::load_active(&mut tx).await? else { return Ok(()) };
    let declared = Catalog { lanes: merged(&store::lane::list(&mut tx).await?), ..Catalog::default() };
    let declared = declared.lanes_in_force();
    let before = active.catalog.lanes_in_force().into_owned();
    let mut lanes = before.clone();
    for lane in before.keys().filter(|lane| !declared.contains_key(*lane)) {
        if store::lane::has_unfinished_jobs(&mut tx, lane).await? {
            continue;
        }
        lanes.remove(lane);
        let details = json!({ "reason": "nothing is left in it" });
        let change = Change { object: Object::Lane(lane.clone()), key_id: None, action: Action::Remove, details };
        audit::record_change(&mut tx, change).await?;
    }
    for lane in store::lane::unknown_with_work(&mut tx, &before).await? {
        lanes.insert(lane, LaneRule::new(LaneClass::Weighted, 1).closing());
    }
    if lanes == before {
        return Ok(());
    }
    let next = Catalog { lanes, ..active.catalog };
    store::config::apply(&mut tx, &next, &hostname()).await?;
    limits::apply(&mut tx, &next).await?;
    tx.commit().await?;
    config::follow_now(engine).await;
    Ok(())
}
