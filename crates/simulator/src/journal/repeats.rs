//! Ids that came more than once. A gateway that calls a provider twice under one attempt pays twice.

use std::collections::HashSet;

pub struct Repeats {
    seen: HashSet<u128>,
    /// The first record whose id has not been looked at.
    pub next: u64,
    pub found: u64,
}

impl Repeats {
    pub fn starting_at(next: u64) -> Self {
        Self { seen: HashSet::new(), next, found: 0 }
    }

    /// Looks at the ids of the records before number `until`.
    pub fn take(&mut self, until: u64, ids: &[u128]) {
        let new = ids.iter().filter(|&&id| self.seen.insert(id)).count();
        self.found += (ids.len() - new) as u64;
        self.next = until;
    }
}
