//! One replica: its slots, its accounts, and its claims, which decide as the gateway's do.

use std::time::Duration;

use foldhash::HashMap;
use scheduler::{
    allocator::{LaneState, ShareState, fill},
    backoff,
    lane_scheduler::{self, Asking, Turn},
    slot_time::{self, Account, FIRST_GUESS, per_weight},
};

use crate::{
    events::{Event, Events},
    random::Random,
    report::Report,
    teams::{LANES, Order, PROD, Team},
};

const CLAIM: u64 = 3_000;
/// Of lanes of which nothing else is said.
const MAX_WAIT: u64 = 30_000_000;
/// How long who waits for a provider that is down is left alone at first.
const DOWN: Duration = Duration::from_millis(25);
const FLOWS: usize = 8;
const MOST_FLOWS: usize = 4_096;
const WEIGHTS: [u32; 3] = [1, 4, 1];

pub struct Replica {
    n: u16,
    slots: usize,
    pub used: usize,
    pub claiming: bool,
    pub looks: bool,
    /// The free slots that its last claim could not fill, when it filled none.
    pub in_vain: Option<usize>,
    scan_factor: usize,
    all: Account,
    accounts: Vec<Account>,
    turns: HashMap<usize, Turn>,
    /// The shares that the claim under way has locked, and when each may be put back.
    locked: Vec<(u32, After)>,
}

#[derive(Clone, Copy)]
enum After {
    Awake,
    Held(u64),
    Rests,
}

impl Replica {
    pub fn new(n: usize, slots: usize, teams: usize) -> Self {
        Self {
            n: n as u16,
            slots,
            used: 0,
            claiming: false,
            looks: false,
            in_vain: None,
            scan_factor: 1,
            all: Account::default(),
            accounts: vec![Account::default(); teams],
            turns: HashMap::default(),
            locked: Vec::new(),
        }
    }

    pub fn free(&self) -> usize {
        self.slots - self.used
    }

    pub fn batch_window(&self) -> u64 {
        slot_time::batch_window(&self.all).as_micros() as u64
    }

    pub fn end(&mut self, team: u32, lane: usize, calls: u16, started: u64, now: u64) {
        for _ in 0..calls {
            self.accounts[team as usize].end(started, now);
            self.all.end(started, now);
            if let Some(turn) = self.turns.get_mut(&lane) {
                turn.account.end(started, now);
            }
        }
        self.used -= usize::from(calls);
    }

    #[expect(clippy::too_many_arguments, reason = "the tables of a database, and what it tells of them")]
    #[expect(
        clippy::too_many_lines,
        reason = "the steps of the gateway's claim, one after the other, on plain vectors"
    )]
    pub fn claim(
        &mut self,
        now: u64,
        teams: &mut [Team],
        orders: &mut [Order; 3],
        up: &[bool],
        events: &mut Events,
        random: &mut Random,
        report: &mut Report,
    ) {
        let free = self.free();
        let most = (free / 2).clamp(4, 16) * self.scan_factor;
        let (mut taken, mut full) = (Vec::new(), false);
        let mut join_times = [None; 3];
        for (lane, order) in orders.iter_mut().enumerate() {
            let first = taken.len();
            order.take(most, teams, &mut taken);
            full |= taken.len() - first == most;
            if taken[first..].iter().any(|team| teams[*team as usize].woken) {
                join_times[lane] = Some(order.join_time(teams, &taken[first..]));
            }
        }
        self.in_vain = Some(free);
        if taken.is_empty() {
            return;
        }
        let guess = self.all.cost(FIRST_GUESS);
        let part = MOST_FLOWS / taken.len();
        let enough_flows = (FLOWS * self.scan_factor).min(part).max(FLOWS);
        let most_flows = free.min(part).max(enough_flows);
        let (mut shares, mut supply, mut owners) = (Vec::with_capacity(taken.len()), Vec::new(), Vec::new());
        for team in &taken {
            let (state, account) = (&mut teams[*team as usize], &mut self.accounts[*team as usize]);
            let first = supply.len();
            // Beyond enough only as long as those before cannot fill the slots.
            let mut before = 0;
            let read = state.jobs.iter().take(most_flows).enumerate().take_while(|(place, job)| {
                let more = *place < enough_flows || before < free as u64;
                before += job.left;
                more
            });
            supply.extend(read.map(|(_, job)| job.left.min(free as u64) as usize));
            owners.resize(supply.len(), *team);
            state.cost = account.learn(state.cost);
            let cost = if state.cost == 0 { guess } else { state.cost };
            let mut virtual_time = state.virtual_time + per_weight(account.bill(now, cost), state.weight);
            if let Some(join_time) = join_times[state.lane].filter(|_| state.woken) {
                virtual_time = virtual_time.max(join_time);
            }
            let (lane, weight, flows) = (state.lane, state.weight, first..supply.len());
            shares.push(ShareState { lane, weight, virtual_time, cost, flows });
        }
        let mut lanes = self.lanes(now, guess, &shares);
        let before: Vec<usize> = lanes.iter().map(|lane| lane.in_use).collect();
        let ranges: Vec<_> = shares.iter().map(|share| share.flows.clone()).collect();
        let had = supply.clone();
        let mut refused = vec![false; supply.len()];
        let mut gate = |flow: usize| {
            let team = &mut teams[owners[flow] as usize];
            let fits = up[team.route] && team.cap.is_none_or(|cap| team.running < cap);
            if fits {
                team.count(now);
                team.running += 1;
            }
            refused[flow] |= !fits;
            fits
        };
        fill(self.slots, free, &mut lanes, &mut shares, &mut supply, &mut gate);
        let rests = |flow: usize| supply[flow] == 0 || refused[flow];
        let spent = ranges.iter().any(|flows| flows.len() >= enough_flows && flows.clone().all(rests));
        for lane in (0..LANES.len()).filter(|lane| lanes[*lane].in_use > before[*lane]) {
            lane_scheduler::served(&mut self.turns, &lane, lanes[lane].served_up_to, now);
        }

        let mut granted = 0;
        for ((team, share), flows) in taken.iter().zip(&shares).zip(ranges) {
            let state = &mut teams[*team as usize];
            let mut calls = 0;
            for (job, flow) in flows.clone().enumerate() {
                let n = had[flow] - supply[flow];
                if n > 0 {
                    state.jobs[job].left -= n as u64;
                    report.waited(state, now + CLAIM - state.jobs[job].arrived, n as u64);
                    calls += n;
                }
            }
            state.jobs.retain(|job| job.left > 0);
            (state.virtual_time, state.woken) = (share.virtual_time, false);
            if calls > 0 {
                self.start(*team, state, calls, share.cost, now, events, random);
            }
            granted += calls;
            let held = flows.clone().any(|flow| refused[flow]);
            state.held_since = if held && calls == 0 { state.held_since.or(Some(now)) } else { None };
            state.competing &= !held;
            let asked = if up[state.route] { backoff::at_limit(share.cost) } else { DOWN };
            let so_far = Duration::from_micros(state.held_since.map_or(0, |since| now - since));
            let after = match held {
                _ if state.jobs.is_empty() => After::Rests,
                true => After::Held(now + backoff::while_blocked(asked, so_far).as_micros() as u64),
                false => After::Awake,
            };
            self.locked.push((*team, after));
        }
        report.claims += 1;
        self.claiming = true;
        let held = granted == 0 && full && refused.contains(&true);
        let shallow = granted > 0 && granted < free / 2 && spent;
        self.scan_factor = if held || shallow { (self.scan_factor * 4).min(64) } else { (self.scan_factor / 2).max(1) };
        self.in_vain = self.in_vain.filter(|_| granted == 0 && !held);
        events.at(now + CLAIM, Event::Commit { replica: self.n });
    }

    #[expect(clippy::too_many_arguments, reason = "what is known of a grant")]
    fn start(
        &mut self,
        team: u32,
        state: &Team,
        calls: usize,
        cost: u64,
        now: u64,
        events: &mut Events,
        random: &mut Random,
    ) {
        for _ in 0..calls {
            self.all.start(now);
            self.accounts[team as usize].start(now);
            self.accounts[team as usize].billed(cost);
            self.turns.entry(state.lane).or_default().account.start(now);
        }
        self.used += calls;
        let took = (state.call * (0.5 + random.unit())) as u64;
        events.at(now + CLAIM + took, Event::End { replica: self.n, team, calls: calls as u16, started: now });
    }

    fn lanes(&mut self, now: u64, guess: u64, shares: &[ShareState]) -> Vec<LaneState> {
        let wants = |lane| shares.iter().any(|share| share.lane == lane && !share.flows.is_empty());
        let asking: Vec<Asking<usize>> = (0..LANES.len())
            .map(|lane| Asking {
                lane,
                strict: lane == PROD,
                weight: WEIGHTS[lane],
                wants: wants(lane),
                most: None,
                max_wait: (lane != PROD).then_some(MAX_WAIT),
            })
            .collect();
        let standings = lane_scheduler::look(&mut self.turns, &asking, self.slots, now, guess);
        let state = |(lane, s): (usize, lane_scheduler::Standing)| LaneState {
            strict: lane == PROD,
            weight: WEIGHTS[lane],
            reserve: if lane == PROD { self.slots.div_ceil(10) } else { 0 },
            most: None,
            in_use: s.in_use,
            calls: s.calls,
            virtual_time: s.virtual_time,
            overdue: s.overdue,
            served_up_to: s.served_up_to,
        };
        standings.into_iter().enumerate().map(state).collect()
    }

    /// The locks of its claim are released.
    pub fn commit(&mut self, teams: &mut [Team], orders: &mut [Order; 3], events: &mut Events) {
        self.claiming = false;
        for (team, after) in std::mem::take(&mut self.locked) {
            let state = &mut teams[team as usize];
            state.locked = false;
            match after {
                After::Held(until) => events.at(until, Event::Wake { team }),
                // A job may have come in meanwhile: then it was woken.
                After::Rests if state.jobs.is_empty() => state.competing = false,
                After::Rests => {
                    state.woken = true;
                    orders[state.lane].put(team, teams);
                }
                After::Awake => orders[state.lane].put(team, teams),
            }
        }
    }
}
