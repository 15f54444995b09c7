//! Partitions a deployment's limit among lanes. A reserve belongs to one lane, the rest is shared, and a maximum bounds
//! a lane across both. Each partition is a limit of its own, and so as exact across replicas as the deployment's limit.

use std::{collections::BTreeMap, sync::Arc};

use domain::{Lane, catalog::LaneRule};

use super::{StoredScope, stored_scope::LanePartition};

/// Lanes with a reserve, and how many percent it is.
pub type Reserves = Arc<[(Lane, u8)]>;

pub fn reserves(lanes: &BTreeMap<Lane, LaneRule>) -> Reserves {
    lanes
        .iter()
        .filter(|(_, rule)| rule.reserve_percent > 0)
        .map(|(l, rule)| (l.clone(), rule.reserve_percent))
        .collect()
}

/// What of `cap` is each lane's own, in their order. At least 1 is nobody's, so that a small deployment serves all lanes.
pub(super) fn own(cap: i64, reserves: &[(Lane, u8)]) -> Vec<i64> {
    let mut reservable = (cap - 1).max(0);
    let own = |(_, percent): &(Lane, u8)| {
        let partition =
            i64::try_from((i128::from(cap) * i128::from(*percent) + 99) / 100).unwrap_or(cap).min(reservable);
        reservable -= partition;
        partition
    };
    reserves.iter().map(own).collect()
}

/// The limits that a deployment's limit of `cap` becomes for lanes: scopes and caps.
pub(super) fn of(name: &str, cap: i64, lanes: &BTreeMap<Lane, LaneRule>) -> Vec<(String, i64)> {
    let reserves = reserves(lanes);
    let own = own(cap, &reserves);
    let mut partitions: Vec<(String, i64)> =
        reserves.iter().zip(&own).map(|((lane, _), partition)| (reserve_scope(name, lane), *partition)).collect();
    partitions.retain(|(_, partition)| *partition > 0);
    if !reserves.is_empty() {
        partitions.push((shared_scope(name), cap - own.iter().sum::<i64>()));
    }
    for (lane, rule) in lanes.iter().filter(|(_, rule)| rule.max_percent < 100) {
        let most = i128::from(cap) * i128::from(rule.max_percent) / 100;
        partitions.push((most_scope(name, lane), i64::try_from(most).unwrap_or(cap).max(1)));
    }
    partitions
}

pub(super) fn shared_scope(name: &str) -> String {
    StoredScope::LanePartition { deployment: name.to_owned(), partition: LanePartition::Shared }.to_string()
}
pub(super) fn reserve_scope(name: &str, lane: &Lane) -> String {
    StoredScope::LanePartition { deployment: name.to_owned(), partition: LanePartition::Reserve(lane.clone()) }
        .to_string()
}
pub(super) fn most_scope(name: &str, lane: &Lane) -> String {
    StoredScope::LanePartition { deployment: name.to_owned(), partition: LanePartition::Most(lane.clone()) }.to_string()
}

#[cfg(test)]
mod tests {
    use domain::{Catalog, catalog::LaneClass};

    use super::*;

    fn lanes(of: &[(&str, u8, u8)]) -> BTreeMap<Lane, LaneRule> {
        let rule = |reserve_percent, max_percent| LaneRule {
            reserve_percent,
            max_percent,
            ..LaneRule::new(LaneClass::Weighted, 1)
        };
        of.iter().map(|(lane, reserve, most)| (lane.parse().unwrap(), rule(*reserve, *most))).collect()
    }

    fn partitions(cap: i64, of: &[(&str, u8, u8)]) -> String {
        super::of("d", cap, &lanes(of)).iter().map(|(scope, cap)| format!("{}={cap} ", &scope[13..])).collect()
    }

    #[test]
    fn each_lane_has_its_own_reserve_and_its_own_maximum() {
        let of_three = partitions(100, &[("a", 10, 100), ("b", 20, 50), ("c", 0, 30)]);
        assert_eq!(of_three, "reserve:a=10 reserve:b=20 shared=70 most:b=50 most:c=30 ");
        assert_eq!(partitions(10, &[("c", 0, 100)]), "", "nothing is said of lanes");
        let largest = partitions(i64::MAX, &[("a", 90, 100)]);
        assert_eq!(largest, "reserve:a=8301034833169298227 shared=922337203685477580 ");
    }

    #[test]
    fn a_small_deployment_serves_all_lanes() {
        assert_eq!(partitions(1, &[("a", 10, 100), ("c", 0, 30)]), "shared=1 most:c=1 ");
        assert_eq!(partitions(2, &[("a", 10, 100), ("b", 20, 100)]), "reserve:a=1 shared=1 ");
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        for cap in 1..200 {
            let partitions = super::of("d", cap, &lanes(&[("a", 7, 100), ("b", 33, 100), ("c", 0, 100)]));
            assert_eq!(partitions.iter().map(|(_, partition)| partition).sum::<i64>(), cap);
        }
    }

    #[test]
    fn only_lanes_with_a_reserve_have_one() {
        assert_eq!(*reserves(&Catalog::default_lanes()), [(Lane::prod(), 10)]);
    }
}
