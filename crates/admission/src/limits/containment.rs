//! Containment of limits: a limit inside a team cannot exceed the team's own.

use std::collections::HashMap;

use domain::{Catalog, Lane};
use store::{PgConnection, limit::LimitRow};

use super::{LimitScope, StoredScope, key_scope, lane_scope, team_scope};

/// Two limits contradict each other: one of them would have no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {cap} of {of} contradicts {kind} {other} of {other_of}, which {why}")]
pub struct Contradiction {
    pub kind: String,
    of: String,
    cap: i64,
    other_of: String,
    other: i64,
    why: &'static str,
}

/// The stored scope of a limit, with the scopes that contain it and those that it contains.
pub(super) struct ScopeNesting {
    pub scope: String,
    /// The team, as people call it.
    pub team: String,
    /// The scope of the team's own limits, for what is inside a team.
    pub outer: Option<String>,
    /// The scopes inside a team.
    pub inner: Vec<String>,
}

impl ScopeNesting {
    /// A team with its lanes, and of its keys those that have limits.
    pub fn team<'a>(
        name: &str,
        id: i64,
        lanes: impl Iterator<Item = &'a Lane>,
        keys: impl Iterator<Item = &'a str>,
    ) -> Self {
        let inner = lanes.map(|lane| lane_scope(lane, id)).chain(keys.map(key_scope)).collect();
        Self { scope: team_scope(id), team: name.to_owned(), outer: None, inner }
    }

    /// Something inside a team.
    pub fn inside(scope: String, team: &str, id: i64) -> Self {
        Self { scope, team: team.to_owned(), outer: Some(team_scope(id)), inner: Vec::new() }
    }

    /// A stored scope with the team's name in place of its number.
    fn named(&self, scope: &str) -> String {
        scope.parse::<StoredScope>().map_or_else(|_| scope.to_owned(), |scope| scope.named(&self.team))
    }
}

/// The caps in force, by scope and kind.
pub(super) struct Caps<'a>(HashMap<(&'a str, &'a str), i64>);

impl<'a> Caps<'a> {
    pub fn of(rows: &'a [LimitRow]) -> Self {
        Self(rows.iter().map(|row| ((row.scope.as_str(), row.kind.as_str()), row.cap)).collect())
    }

    pub fn get(&self, scope: &str, kind: &str) -> Option<i64> {
        self.0.get(&(scope, kind)).copied()
    }

    /// Checks a limit against the others. `of`: its scope as users write it.
    pub fn check(&self, found: &ScopeNesting, of: &impl ToString, kind: &str, cap: i64) -> Result<(), Contradiction> {
        let known = |scope: &String, why| Some((scope.clone(), self.get(scope, kind)?, why));
        let whole =
            found.outer.iter().filter_map(|scope| known(scope, "it is part of")).filter(|(_, whole, _)| *whole < cap);
        let parts =
            found.inner.iter().filter_map(|scope| known(scope, "is part of it")).filter(|(_, part, _)| *part > cap);
        match whole.chain(parts).next() {
            None => Ok(()),
            Some((scope, other, why)) => {
                let (of, other_of) = (of.to_string(), found.named(&scope));
                Err(Contradiction { kind: kind.to_owned(), of, cap, other_of, other, why })
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Checks the limits that a catalog declares against each other and against those of the API. Called after they were
/// applied, in the same transaction.
pub async fn check(conn: &mut PgConnection, catalog: &Catalog) -> Result<(), CheckError> {
    let rows = store::limit::active(conn).await?;
    let caps = Caps::of(&rows);
    let mut keys: HashMap<i64, Vec<String>> = HashMap::new();
    for (key, team) in store::key::limited(conn).await? {
        keys.entry(team).or_default().push(key);
    }
    let teams: HashMap<String, i64> =
        store::team::list(conn).await?.into_iter().map(|team| (team.name, team.team_id)).collect();
    let lanes = catalog.lanes_in_force();
    for (name, team) in &catalog.teams {
        let Some(id) = teams.get(name).copied() else { continue };
        let keys = keys.get(&id).into_iter().flatten().map(String::as_str);
        let whole = ScopeNesting::team(name, id, lanes.keys(), keys);
        for (kind, cap) in team.caps().each() {
            caps.check(&whole, &LimitScope::Team(name.clone()), kind, cap)?;
        }
        for (lane, lane_caps) in &team.lanes {
            let part = ScopeNesting::inside(lane_scope(lane, id), name, id);
            for (kind, cap) in lane_caps.each() {
                caps.check(&part, &LimitScope::Lane { lane: lane.clone(), team: name.clone() }, kind, cap)?;
            }
        }
    }
    Ok(())
}

/// Checks the caps of a key that is being created and is not in the table yet.
pub async fn check_key(
    conn: &mut PgConnection,
    team: &str,
    team_id: i64,
    wanted: domain::catalog::Caps,
) -> Result<(), CheckError> {
    let rows = store::limit::active(conn).await?;
    let (caps, key) = (Caps::of(&rows), ScopeNesting::inside(String::new(), team, team_id));
    for (kind, cap) in wanted.each() {
        caps.check(&key, &"the key", kind, cap)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_no_more_than_the_whole() {
        let row = |scope: &str, cap| LimitRow {
            limit_id: 1,
            scope: scope.into(),
            kind: "slots".into(),
            cap,
            managed_by: "api".into(),
            generation: 0,
        };
        let rows = [row("team:7", 10), row("lane:bulk:team:7", 6), row("key:abc", 4)];
        let caps = Caps::of(&rows);
        let said = |found: &ScopeNesting, of: &str, kind: &str, cap| {
            caps.check(found, &of, kind, cap).err().map(|bad| bad.to_string()).unwrap_or_default()
        };
        let inside = ScopeNesting::inside("lane:bulk:team:7".into(), "search", 7);
        assert_eq!(said(&inside, "lane:bulk:team:search", "slots", 10), "");
        assert_eq!(said(&inside, "lane:bulk:team:search", "rpm", 11), "");
        assert_eq!(
            said(&inside, "lane:bulk:team:search", "slots", 11),
            "slots 11 of lane:bulk:team:search contradicts slots 10 of team:search, which it is part of"
        );
        let whole = ScopeNesting::team("search", 7, [Lane::bulk()].iter(), ["abc"].into_iter());
        assert_eq!(
            said(&whole, "team:search", "slots", 5),
            "slots 5 of team:search contradicts slots 6 of lane:bulk:team:search, which is part of it"
        );
        let bare = ScopeNesting::team("search", 7, [].iter(), ["abc"].into_iter());
        assert_eq!(said(&bare, "team:search", "slots", 4), "");
        assert_eq!(
            said(&bare, "team:search", "slots", 3),
            "slots 3 of team:search contradicts slots 4 of key:abc, which is part of it"
        );
    }
}
