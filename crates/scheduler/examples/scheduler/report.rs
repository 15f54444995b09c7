//! What the simulation found: how long requests waited, and how evenly teams were served.

use std::time::Duration;

use crate::{
    teams::{BULK, LANES, Team},
    world::Size,
};

/// Sixteen buckets to a doubling: within 5 %.
const STEPS: f64 = 16.0;
/// A tenth is reserved.
const SCARCE: f64 = 0.85;

pub struct Report {
    /// By lane, and of teams that are capped, which wait for themselves.
    waits: [Vec<u64>; 4],
    /// Jain's index of each window: (Σx)² / (n Σx²), where 1 is perfectly even.
    windows: Vec<(f64, usize)>,
    pub claims: u64,
}

impl Report {
    pub fn new() -> Self {
        Self { waits: std::array::from_fn(|_| vec![0; 800]), windows: Vec::new(), claims: 0 }
    }

    pub fn waited(&mut self, team: &Team, wait: u64, requests: u64) {
        let lane = if team.cap.is_some() { LANES.len() } else { team.lane };
        let bucket = ((wait.max(1) as f64).log2() * STEPS) as usize;
        self.waits[lane][bucket.min(799)] += requests;
    }

    /// Ends a window: teams of `bulk` that were backlogged and not held for the whole of it are compared, if slots were scarce.
    /// `slot_time`: what all slots together have in a window.
    pub fn window(&mut self, teams: &mut [Team], now: u64, slot_time: u64) {
        let mut all = 0;
        let (mut n, mut sum, mut squares) = (0usize, 0.0, 0.0);
        for team in teams.iter_mut() {
            team.count(now);
            all += team.used;
            let used = std::mem::take(&mut team.used) as f64 / f64::from(team.weight);
            if team.competing && team.lane == BULK {
                (n, sum, squares) = (n + 1, sum + used, squares + used * used);
            }
            team.competing = !team.jobs.is_empty() && team.held_since.is_none() && team.cap.is_none();
        }
        if n > 1 && all as f64 >= SCARCE * slot_time as f64 {
            self.windows.push((sum * sum / (n as f64 * squares), n));
        }
    }

    /// The least even window.
    #[cfg(test)]
    pub fn jain_min(&self) -> f64 {
        self.windows.iter().map(|window| window.0).fold(f64::NAN, f64::min)
    }

    /// In seconds; `lane` is a place in [`LANES`].
    pub fn percentile(&self, lane: usize, part: f64) -> f64 {
        let total: u64 = self.waits[lane].iter().sum();
        let mut seen = 0;
        let reached = |count: &u64| {
            seen += count;
            seen as f64 >= part * total as f64
        };
        let bucket = self.waits[lane].iter().position(reached).unwrap_or(0);
        ((bucket as f64 + 1.0) / STEPS).exp2() / 1e6
    }

    pub fn print(&mut self, size: &Size, now: u64, took: Duration) {
        println!(
            "teams {}  replicas {}  slots {}  seed {}",
            size.teams,
            size.replicas,
            size.replicas * size.slots,
            size.seed
        );
        println!("simulated {:.0} s in {:.1} s, {} claims", now as f64 / 1e6, took.as_secs_f64(), self.claims);
        println!("{:<10} {:>12} {:>12} {:>12}", "lane", "requests", "wait p50 s", "wait p99 s");
        for (lane, name) in LANES.iter().chain(&["capped"]).enumerate() {
            let requests: u64 = self.waits[lane].iter().sum();
            let (p50, p99) = (self.percentile(lane, 0.5), self.percentile(lane, 0.99));
            println!("{name:<10} {requests:>12} {p50:>12.3} {p99:>12.3}");
        }
        self.windows.sort_by(|a, b| a.0.total_cmp(&b.0));
        let index = |part: f64| self.windows.get((part * self.windows.len() as f64) as usize).map_or(f64::NAN, |w| w.0);
        println!(
            "jain of slot-time by weight, {} windows with scarce slots: min {:.4}  p10 {:.4}  p50 {:.4}",
            self.windows.len(),
            index(0.0),
            index(0.1),
            index(0.5)
        );
    }
}
