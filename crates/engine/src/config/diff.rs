//! The differences between two configurations, by name.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

/// Such as `lanes.bulk` or `prices`, sorted.
pub fn changed<T: Serialize>(before: &T, after: &T) -> Vec<String> {
    // Plain data always serializes.
    let document = |whole: &T| serde_json::to_value(whole).unwrap_or_default();
    let (before, after) = (document(before), document(after));
    let mut names = Vec::new();
    for section in keys(&before, &after) {
        let (old, new) = (&before[section], &after[section]);
        match (old, new) {
            (Value::Object(_), Value::Object(_)) => {
                let different = keys(old, new).into_iter().filter(|name| old[*name] != new[*name]);
                names.extend(different.map(|name| format!("{section}.{name}")));
            }
            _ if old != new => names.push(section.clone()),
            _ => {}
        }
    }
    names
}

fn keys<'v>(one: &'v Value, other: &'v Value) -> BTreeSet<&'v String> {
    [one, other].into_iter().filter_map(Value::as_object).flat_map(|map| map.keys()).collect()
}

#[cfg(test)]
mod tests {
    use domain::{Catalog, catalog::TeamRule};

    use super::*;

    #[test]
    fn what_is_new_gone_or_different_is_named() {
        let with = |teams: &[(&str, u32)]| Catalog {
            teams: teams
                .iter()
                .map(|(n, w)| ((*n).to_owned(), TeamRule { weight: *w, ..TeamRule::default() }))
                .collect(),
            ..Catalog::default()
        };
        let (before, mut after) = (with(&[("a", 1), ("b", 1), ("c", 1)]), with(&[("b", 2), ("c", 1), ("d", 1)]));
        after.quotas.pending_gb = 1;
        assert_eq!(changed(&before, &after), ["quotas", "teams.a", "teams.b", "teams.d"]);
        assert_eq!(changed(&before, &before), Vec::<String>::new());
    }
}
