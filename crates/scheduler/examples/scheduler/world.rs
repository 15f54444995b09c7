//! The world that is simulated: who submits what and when, and what follows from it.

use crate::{
    events::{Event, Events},
    random::Random,
    replica::Replica,
    report::Report,
    teams::{BULK, Job, Order, PROD, ROUTES, STANDARD, Team},
};

const SECOND: u64 = 1_000_000;
/// A window is this many times the time that one request of each bulk team would take all slots.
const WINDOW_ROUNDS: u64 = 16;

pub struct Size {
    pub requests: u64,
    pub teams: usize,
    pub replicas: usize,
    /// Of each replica.
    pub slots: usize,
    pub seed: u64,
}

impl Default for Size {
    fn default() -> Self {
        Self { requests: 10_000_000, teams: 10_000, replicas: 100, slots: 256, seed: 1 }
    }
}

pub struct World {
    pub size: Size,
    pub now: u64,
    pub report: Report,
    random: Random,
    events: Events,
    teams: Vec<Team>,
    orders: [Order; 3],
    replicas: Vec<Replica>,
    up: Vec<bool>,
    /// Requests that are still to be submitted, by lane, and the mean time between two jobs.
    to_come: [u64; 3],
    between: [f64; 3],
    window: u64,
}

impl World {
    /// A sixth of the requests is prod's and a third standard's, arriving over as long as all would take; bulk's, the other
    /// half, are all there from the beginning.
    pub fn new(size: Size) -> Self {
        let mut random = Random(size.seed);
        let teams: Vec<Team> = (0..size.teams).map(|n| Team::new(n, &mut random)).collect();
        let replicas: Vec<Replica> = (0..size.replicas).map(|n| Replica::new(n, size.slots, size.teams)).collect();
        let (prod, standard) = (size.requests / 6, size.requests / 3);
        let horizon = size.requests as f64 * 1.1e6 / (size.replicas * size.slots) as f64;
        let between = [
            horizon * mean_size(PROD) / prod.max(1) as f64,
            horizon * mean_size(STANDARD) / standard.max(1) as f64,
            0.0,
        ];
        let window = (WINDOW_ROUNDS * size.teams as u64 * SECOND / (size.replicas * size.slots) as u64).max(5 * SECOND);
        Self {
            now: 0,
            report: Report::new(),
            random,
            events: Events::default(),
            teams,
            orders: Default::default(),
            replicas,
            up: vec![true; ROUTES],
            to_come: [prod, standard, size.requests - prod - standard],
            between,
            window,
            size,
        }
    }

    pub fn run(&mut self) {
        self.begin();
        while let Some((now, event)) = self.events.next() {
            self.now = now;
            match event {
                Event::Arrival { lane } => self.arrival(usize::from(lane)),
                Event::End { replica, team, calls, started } => {
                    let state = &mut self.teams[team as usize];
                    state.count(now);
                    state.running -= u64::from(calls);
                    self.replicas[usize::from(replica)].end(team, state.lane, calls, started, now);
                    self.freed(usize::from(replica));
                }
                Event::Look { replica } => {
                    self.replicas[usize::from(replica)].looks = false;
                    self.look(usize::from(replica));
                }
                Event::Commit { replica } => {
                    let replica = usize::from(replica);
                    self.replicas[replica].commit(&mut self.teams, &mut self.orders, &mut self.events);
                    self.freed(replica);
                }
                Event::Wake { team } => {
                    self.orders[self.teams[team as usize].lane].put(team, &mut self.teams);
                    self.ring_one();
                }
                Event::Provider { route, up } => self.up[usize::from(route)] = up,
                Event::Window => {
                    let slots = (self.size.replicas * self.size.slots) as u64;
                    self.report.window(&mut self.teams, now, slots * self.window);
                    if self.teams.iter().any(|team| !team.jobs.is_empty() || team.running > 0) {
                        self.events.at(now + self.window, Event::Window);
                        // What only polling finds, such as a provider that came back.
                        (0..self.replicas.len()).for_each(|replica| self.notify(replica));
                    }
                }
            }
        }
    }

    fn begin(&mut self) {
        let bulk: Vec<usize> = (0..self.teams.len()).filter(|n| self.teams[*n].lane == BULK).collect();
        // From 1 to 1,000 parts, so that most teams have little and a few have nearly all.
        let parts: Vec<f64> = bulk.iter().map(|_| self.random.magnitude(1.0, 1_000.0)).collect();
        let scale = self.to_come[BULK] as f64 / parts.iter().sum::<f64>().max(1.0);
        for (team, parts) in bulk.into_iter().zip(parts) {
            self.submit(team, ((parts * scale) as u64).max(1));
        }
        for lane in [PROD, STANDARD] {
            self.events.at(0, Event::Arrival { lane: lane as u8 });
        }
        let horizon = self.between[PROD] * self.to_come[PROD] as f64 / mean_size(PROD);
        for (part, up) in [(0.3, false), (0.4, true)] {
            self.events.at((horizon * part) as u64, Event::Provider { route: 1, up });
        }
        for replica in 0..self.replicas.len() {
            self.notify(replica);
        }
        self.events.at(self.window, Event::Window);
    }

    fn arrival(&mut self, lane: usize) {
        let n = job_size(lane, &mut self.random).min(self.to_come[lane]);
        if n == 0 {
            return;
        }
        self.to_come[lane] -= n;
        // Teams of a lane are spread evenly over the numbers; see `Team::new`.
        let block = self.random.below(self.teams.len().div_ceil(20)) * 20;
        let team = block + if lane == PROD { 0 } else { 1 + self.random.below(5) };
        if team < self.teams.len() {
            self.submit(team, n);
            self.ring_one();
        }
        let pause = self.random.exponential(self.between[lane]) as u64;
        self.events.at(self.now + pause, Event::Arrival { lane: lane as u8 });
    }

    fn submit(&mut self, team: usize, n: u64) {
        let state = &mut self.teams[team];
        let rested = state.jobs.is_empty();
        state.jobs.push_back(Job { arrived: self.now, left: n });
        // One that a claim has locked is put back by it.
        if rested && !state.locked {
            state.woken = true;
            self.orders[state.lane].put(team as u32, &mut self.teams);
        }
    }

    /// A slot was freed, or a claim is over. Small claims cost as much as large ones, so slots are gathered; after a claim that
    /// found nothing, as many more.
    fn freed(&mut self, replica: usize) {
        let enough = (self.size.slots / 8).max(1);
        let r = &mut self.replicas[replica];
        let wanted = r.in_vain.map_or(0, |free| (free + enough).min(self.size.slots));
        if r.claiming || r.free() == 0 || r.free() < wanted {
            return;
        }
        if r.free() >= enough {
            self.look(replica);
        } else if !r.looks {
            r.looks = true;
            let batch_window = r.batch_window();
            self.events.at(self.now + batch_window, Event::Look { replica: replica as u16 });
        }
    }

    /// Of all that hear of work, one gets it.
    fn ring_one(&mut self) {
        let first = self.random.below(self.replicas.len());
        let n = self.replicas.len();
        let idle = |replica: &usize| !self.replicas[*replica].claiming && self.replicas[*replica].free() > 0;
        if let Some(replica) = (first..first + n).map(|replica| replica % n).find(idle) {
            self.notify(replica);
        }
    }

    fn notify(&mut self, replica: usize) {
        let r = &mut self.replicas[replica];
        if !r.claiming && !r.looks && r.free() > 0 {
            r.looks = true;
            self.events.at(self.now, Event::Look { replica: replica as u16 });
        }
    }

    fn look(&mut self, replica: usize) {
        let r = &mut self.replicas[replica];
        if r.claiming || r.free() == 0 {
            return;
        }
        r.claim(
            self.now,
            &mut self.teams,
            &mut self.orders,
            &self.up,
            &mut self.events,
            &mut self.random,
            &mut self.report,
        );
    }
}

fn mean_size(lane: usize) -> f64 {
    if lane == PROD { 5.0 } else { 200.0 }
}

/// prod's jobs have 1 to 9 requests; standard's vary around their mean by an order of magnitude.
fn job_size(lane: usize, random: &mut Random) -> u64 {
    match lane {
        PROD => 1 + random.below(9) as u64,
        _ => random.exponential(mean_size(lane)) as u64 + 1,
    }
}
