//! Which lanes hold: those of the file, those of the API, and those that nobody declares any more and that are not empty yet.

use std::collections::BTreeMap;

use domain::{Catalog, Lane, catalog::LaneRule};
use store::lane::LaneRow;

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
