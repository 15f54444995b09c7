//! The end of a lane that nobody declares any more. It takes no new work, and what is in it is served under the rule that it
//! had: a job that was accepted is not stranded by who tidies up a file.

use std::{collections::BTreeMap, time::Duration};

use admission::limits;
use domain::{
    Action, Catalog, Lane, Object,
    catalog::{LaneClass, LaneRule},
};
use serde_json::json;
use store::audit::{self, Change};

use super::merged;
use crate::{Engine, upkeep};

/// A replica that has not heard of the removal yet may still take a job: for so long a lane stays whatever is in it.
const GRACE: Duration = Duration::from_secs(60);

/// The lanes that hold when these are declared after that catalog was active.
pub fn with_closing(mut declared: BTreeMap<Lane, LaneRule>, before: &Catalog) -> BTreeMap<Lane, LaneRule> {
    let now = Catalog { lanes: declared.clone(), ..Catalog::default() }.lanes_in_force().into_owned();
    let gone: Vec<_> = before.lanes_in_force().into_owned().into_iter().filter(|(l, _)| !now.contains_key(l)).collect();
    if !gone.is_empty() {
        // Those by default are named once there is another one.
        declared = now;
        declared.extend(gone.into_iter().map(|(lane, rule)| (lane, rule.closing())));
    }
    declared
}

/// Forgets closing lanes in which nothing is left, and takes up such as an earlier version stranded work in.
pub async fn forget_drained(engine: &Engine) -> store::Result<()> {
    let mut tx = engine.pools.work.begin().await?;
    store::config::lock(&mut tx).await?;
    if !store::config::is_older_than(&mut tx, GRACE).await? {
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
    store::config::apply(&mut tx, &next, &upkeep::hostname()).await?;
    limits::apply(&mut tx, &next).await?;
    tx.commit().await?;
    upkeep::follow_now(engine).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes(names: &[&str]) -> BTreeMap<Lane, LaneRule> {
        let rule = LaneRule { reserve_percent: 20, ..LaneRule::new(LaneClass::Strict, 3) };
        names.iter().map(|name| (name.parse().unwrap(), rule.clone())).collect()
    }

    fn told(lanes: &BTreeMap<Lane, LaneRule>) -> String {
        lanes.iter().map(|(lane, rule)| format!("{lane}{} ", if rule.closed { " closes" } else { "" })).collect()
    }

    #[test]
    fn what_is_declared_no_more_closes_under_its_own_rule() {
        let before = Catalog { lanes: lanes(&["a", "b"]), ..Catalog::default() };
        let after = with_closing(lanes(&["b", "c"]), &before);
        assert_eq!(told(&after), "a closes b c ");
        let a = &after[&"a".parse().unwrap()];
        assert_eq!((a.class, a.weight, a.reserve_percent), (LaneClass::Strict, 3, 0));
        // Also over another change, and back.
        let again = Catalog { lanes: after, ..Catalog::default() };
        assert_eq!(told(&with_closing(lanes(&["b", "c"]), &again)), "a closes b c ");
        assert_eq!(told(&with_closing(lanes(&["a", "b"]), &again)), "a b c closes ");
    }

    #[test]
    fn the_lanes_by_default_come_and_go_like_others() {
        assert_eq!(
            told(&with_closing(lanes(&["a"]), &Catalog::default())),
            "a bulk closes prod closes standard closes "
        );
        let before = Catalog { lanes: lanes(&["a"]), ..Catalog::default() };
        assert_eq!(told(&with_closing(BTreeMap::new(), &before)), "a closes bulk prod standard ");
        assert_eq!(with_closing(BTreeMap::new(), &Catalog::default()), BTreeMap::new());
    }
}
