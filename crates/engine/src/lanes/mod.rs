//! Lanes: those that are in force, and changing them while everything runs. The file's lanes are its own; the API adds others
//! and changes those that exist by default where the file declares none. One that is removed is closed, and goes once nothing is
//! left in it.

mod change;
mod closing;
mod show;

use std::collections::BTreeMap;

use domain::{Catalog, Lane, catalog::LaneRule};
use store::lane::LaneRow;

pub use change::{LaneError, remove, set};
pub use closing::{forget_drained, with_closing};
pub use show::{Shown, show};

/// The lanes that hold when these were declared; empty when nobody declared any, and those by default hold.
pub fn merged(rows: &[LaneRow]) -> BTreeMap<Lane, LaneRule> {
    let by_file = rows.iter().any(|row| row.is_file_managed);
    let mut lanes = if by_file || rows.is_empty() { BTreeMap::new() } else { Catalog::default_lanes() };
    for row in rows {
        match &row.rule {
            Some(rule) => drop(lanes.insert(row.lane.clone(), rule.clone())),
            None => drop(lanes.remove(&row.lane)),
        }
    }
    lanes
}

#[cfg(test)]
mod tests {
    use domain::catalog::LaneClass;

    use super::*;

    fn row(name: &str, weight: Option<u32>, is_file_managed: bool) -> LaneRow {
        let rule = weight.map(|weight| LaneRule::new(LaneClass::Weighted, weight));
        LaneRow { lane: name.parse().unwrap(), rule, is_file_managed }
    }

    fn names(rows: &[LaneRow]) -> String {
        merged(rows).iter().map(|(lane, rule)| format!("{lane}={} ", rule.weight)).collect()
    }

    #[test]
    fn the_apis_lanes_stand_beside_the_files_or_the_default_ones() {
        assert_eq!(names(&[]), "");
        assert_eq!(names(&[row("night", Some(7), false)]), "bulk=1 night=7 prod=1 standard=4 ");
        assert_eq!(names(&[row("standard", None, false), row("bulk", Some(2), false)]), "bulk=2 prod=1 ");
        assert_eq!(names(&[row("only", Some(3), true), row("night", Some(7), false)]), "night=7 only=3 ");
        assert_eq!(names(&[row("only", Some(3), true), row("bulk", None, false)]), "only=3 ");
    }
}
