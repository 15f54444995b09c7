//! Who calls: what a key says of its holder.

use std::sync::Arc;

use domain::{Lane, Role, catalog::Caps};
use store::{job::Scope, key::KeyChange};

use super::permission::Permission;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The public part of its key.
    pub key_id: Arc<str>,
    pub team_id: i64,
    pub team: Arc<str>,
    pub role: Role,
    /// In order; the first is the default for synchronous calls. Never empty.
    pub lanes: Arc<[Lane]>,
    /// Of this key alone.
    pub caps: Caps,
}

impl Caller {
    pub fn may(&self, permission: Permission) -> bool {
        permission.is_held_by(self.role)
    }

    /// Whose objects it reaches with a permission that it has.
    pub fn scope(&self, permission: Permission) -> Scope {
        if permission.reaches_all_teams(self.role) { Scope::All } else { Scope::Team(self.team_id) }
    }

    pub fn may_use(&self, lane: &Lane) -> bool {
        self.lanes.contains(lane)
    }

    /// `None` for a row that a newer Tollway wrote with a role or a lane this one cannot read.
    pub(super) fn of_row(row: &KeyChange) -> Option<Self> {
        let lanes: Option<Arc<[Lane]>> = row.lanes.iter().map(|lane| lane.parse().ok()).collect();
        Some(Self {
            key_id: row.key_id.as_str().into(),
            team_id: row.team_id,
            team: row.team.as_str().into(),
            role: row.role.parse().ok()?,
            lanes: lanes.filter(|lanes| !lanes.is_empty())?,
            caps: Caps { slots: row.slots, rpm: row.rpm, tpm: row.tpm },
        })
    }
}
