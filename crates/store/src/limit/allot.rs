//! Divides a limit among replicas. Pure: computes the grant of one replica from its demand and the grants of the
//! others.

/// The spare grant of a replica, for calls still to come, is at most 1/`SPARE_SHARE` of its even share of what is left.
const SPARE_SHARE: i64 = 2;
/// With less than 1/`TIGHT` of the limit left, no replica keeps a spare grant.
const TIGHT: f64 = 8.0;
/// A debt is paid by what comes in within a minute. One that is larger is forgiven, so that no call blocks a limit for longer.
const DEBT_S: f64 = 60.0;

/// The grant of another replica.
#[derive(Debug, Clone, Copy)]
pub struct OtherGrant {
    pub granted: i64,
    /// What of it is in use, or is promised to a request that waits; more than `granted` when it is short.
    pub busy: i64,
    /// A dead replica's grants count as used until they are returned.
    pub is_alive: bool,
}

impl OtherGrant {
    /// What it could do without.
    pub fn idle(self) -> i64 {
        if self.is_alive { (self.granted - self.busy.max(0)).max(0) } else { 0 }
    }
    fn wish(self) -> i64 {
        if self.is_alive { self.busy } else { self.granted }
    }
}

/// What one replica needs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Need {
    /// In use, or waited for.
    pub busy: i64,
    /// For calls that are still to come.
    pub spare: i64,
    /// The part of its grant that it may use while the round runs.
    pub floor: i64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    pub granted: i64,
    /// What is granted to nobody.
    pub left: f64,
    pub is_met: bool,
    pub is_tight: bool,
}

/// Slots: all that fits when it fits; when it does not, an even share, and of the rest what no other replica is short of. What is in
/// use here stays counted even where more than the limit allows is in use, after it was lowered.
pub fn slots(cap: i64, others: &[OtherGrant], used: i64, need: Need, replicas: i64) -> Share {
    let held = others.iter().fold(0i64, |sum, other| sum.saturating_add(other.granted.max(0)));
    let free = cap.saturating_sub(held).max(0);
    let mut wishes: Vec<i64> = others.iter().map(|other| other.wish()).collect();
    wishes.push(need.busy);
    let owed = others
        .iter()
        .filter(|other| other.is_alive)
        .fold(0i64, |sum, other| sum.saturating_add((fair_share(cap, &wishes, other.busy) - other.granted).max(0)));
    let busy = need.busy.min(fair_share(cap, &wishes, need.busy).max(free.saturating_sub(owed))).min(free);
    let beyond = free.saturating_sub(busy).saturating_sub(owed).max(0);
    let spare = need.spare.min(beyond / (SPARE_SHARE * replicas.max(1)));
    let granted = (busy + spare).max(need.floor.min(free));
    let left = free.saturating_sub(granted.max(used)).max(0) as f64;
    Share { granted, left, is_met: granted >= need.busy, is_tight: owed > 0 || left * TIGHT < cap as f64 }
}

/// What `mine` gets of `cap` when `wishes` (mine among them) compete: max-min fair, rounded down.
fn fair_share(cap: i64, wishes: &[i64], mine: i64) -> i64 {
    let mut sorted = wishes.to_vec();
    sorted.sort_unstable();
    let mut left = cap;
    for (n, wish) in sorted.iter().enumerate() {
        let share = left / (sorted.len() - n) as i64;
        if *wish > share {
            return mine.min(share.max(1));
        }
        if *wish == mine {
            return mine;
        }
        left -= wish;
    }
    mine
}

/// A rate's bucket: it holds a tenth of a minute's cap and fills at nine tenths of the cap a minute, so that no minute sees more than the
/// cap. What replicas hold unspent counts as in it.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    pub burst: f64,
    pub per_s: f64,
    pub level: f64,
}

impl Bucket {
    /// `elapsed_s`: since it was at `level`; infinite: it was never used, so it is full.
    pub fn new(cap: i64, level: f64, elapsed_s: f64) -> Self {
        let cap = (cap as f64).min(1e15);
        let (burst, per_s) = ((cap / 10.0).max(1.0), cap * 0.9 / 60.0);
        let level = if elapsed_s.is_finite() { level + per_s * elapsed_s.max(0.0) } else { burst };
        Self { burst, per_s, level }
    }

    /// Takes what a replica needs beyond what it holds. `returned`: what it puts back, or owes; `largest`: the largest call that waits,
    /// which passes when the bucket is full although it never fits.
    pub fn take(&mut self, others: &[OtherGrant], need: Need, returned: i64, largest: i64, replicas: i64) -> Share {
        let elsewhere: f64 = others.iter().map(|other| other.granted.max(0) as f64).sum();
        let held = need.floor.max(0);
        let measure = self.burst - elsewhere - held as f64;
        self.level = (self.level + returned as f64).min(measure).max(-self.per_s * DEBT_S);
        let is_full = elsewhere == 0.0 && self.level + held as f64 >= self.burst * (1.0 - 1e-9);
        let whole = |level: f64| level.floor().clamp(0.0, 1e15) as i64;
        let there = match is_full && largest as f64 > self.burst {
            true => whole(self.level).max(largest - held),
            false => whole(self.level),
        };
        let lacks = need.busy.saturating_sub(held).max(0);
        let taken = lacks.min(there);
        self.level -= taken as f64;
        let spare = need.spare.saturating_sub(held.saturating_sub(need.busy).max(0)).max(0);
        let spare = spare.min(whole(self.level) / (SPARE_SHARE * replicas.max(1)));
        self.level = (self.level - spare as f64).max(-self.per_s * DEBT_S);
        let owed = others.iter().any(|other| other.is_alive && other.busy > other.granted);
        let is_tight = owed || self.level * TIGHT < self.burst;
        Share { granted: taken + spare, left: self.level, is_met: taken >= lacks, is_tight }
    }
}

#[cfg(test)]
mod tests;
