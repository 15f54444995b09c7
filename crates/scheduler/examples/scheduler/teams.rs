//! Teams, their jobs, and their places in the lanes: what PostgreSQL's tables hold.

use std::collections::{BTreeSet, VecDeque};

use crate::random::Random;

pub const LANES: [&str; 3] = ["prod", "standard", "bulk"];
pub const PROD: usize = 0;
pub const STANDARD: usize = 1;
pub const BULK: usize = 2;
/// Providers, each with its route.
pub const ROUTES: usize = 8;

/// A job is a cursor over its requests.
pub struct Job {
    pub arrived: u64,
    pub left: u64,
}

pub struct Team {
    pub lane: usize,
    pub weight: u32,
    pub route: usize,
    /// How long its calls take on average, in µs.
    pub call: f64,
    /// The most calls it may have under way.
    pub cap: Option<u64>,
    pub running: u64,
    pub jobs: VecDeque<Job>,
    pub virtual_time: i64,
    pub cost: u64,
    /// In the order of its lane. Else it rests, is held, or a claim has locked it.
    pub awake: bool,
    pub locked: bool,
    /// It comes back after a rest.
    pub woken: bool,
    pub held_since: Option<u64>,
    /// It was backlogged and never held since the window began.
    pub competing: bool,
    /// Slot-time of this window, in µs, up to `counted`.
    pub used: u64,
    pub counted: u64,
}

impl Team {
    /// One team in twenty is in prod, a quarter in standard, the rest in bulk. One in fifty is capped, one in ten weighs 3.
    pub fn new(n: usize, random: &mut Random) -> Self {
        let lane = match n % 20 {
            0 => PROD,
            1..=5 => STANDARD,
            _ => BULK,
        };
        let call = if lane == PROD { 500_000.0 } else { random.magnitude(300_000.0, 3_000_000.0) };
        Self {
            lane,
            weight: if n % 10 == 9 { 3 } else { 1 },
            route: n % ROUTES,
            call,
            cap: (n % 50 == 13).then_some(1),
            running: 0,
            jobs: VecDeque::new(),
            virtual_time: 0,
            cost: 0,
            awake: false,
            locked: false,
            woken: false,
            held_since: None,
            competing: false,
            used: 0,
            counted: 0,
        }
    }

    /// Counts what it used up to now.
    pub fn count(&mut self, now: u64) {
        self.used += self.running * (now - self.counted);
        self.counted = now;
    }
}

/// The shares of a lane that a claim may take, those that used least first.
#[derive(Default)]
pub struct Order {
    awake: BTreeSet<(i64, u32)>,
    highest: i64,
}

impl Order {
    pub fn put(&mut self, team: u32, teams: &mut [Team]) {
        let share = &mut teams[team as usize];
        self.highest = self.highest.max(share.virtual_time);
        if !share.awake {
            share.awake = true;
            self.awake.insert((share.virtual_time, team));
        }
    }

    /// Takes the first ones, as a claim locks them.
    pub fn take(&mut self, most: usize, teams: &mut [Team], into: &mut Vec<u32>) {
        for _ in 0..most {
            let Some((_, team)) = self.awake.pop_first() else { return };
            let share = &mut teams[team as usize];
            (share.awake, share.locked) = (false, true);
            into.push(team);
        }
    }

    /// See `store::claim::join_times`; `taken` are those that this claim took.
    pub fn join_time(&self, teams: &[Team], taken: &[u32]) -> i64 {
        let competes = |team: &u32| !teams[*team as usize].woken;
        let of_taken = taken.iter().filter(|team| competes(team)).map(|team| teams[*team as usize].virtual_time).min();
        let of_others = self.awake.iter().find(|(_, team)| competes(team)).map(|(virtual_time, _)| *virtual_time);
        of_taken.into_iter().chain(of_others).min().unwrap_or(self.highest)
    }
}
