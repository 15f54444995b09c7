//! Replicas that reserve, settle, die and are cut off, against a model that only adds up what providers charged.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const REPLICAS: usize = 3;
/// One that takes no synchronous calls: each of its calls is written before it is made.
const ONLY_JOBS: usize = 2;

#[derive(Debug, Clone)]
enum Step {
    /// A call that costs at most `worst`, and did cost `percent` of it when it ends.
    Reserve {
        replica: usize,
        worst: i128,
        percent: i128,
    },
    /// The oldest call of it ends: its row is committed, then what it held comes back.
    Settle {
        replica: usize,
    },
    /// It was not made: its caller went away, or no deployment took it.
    Release {
        replica: usize,
    },
    /// Its task died after it was sent. Of a job's request that is booked at what it held; of a synchronous call nothing is.
    Panic {
        replica: usize,
    },
    /// The granter talks to Postgres; `heard`: the answer arrives.
    Round {
        replica: usize,
        heard: bool,
    },
    /// Killed: another process begins in its place. Of its calls, those that were written are booked at what they held.
    Crash {
        replica: usize,
        written: usize,
    },
    /// Taken for dead and alive after all.
    Lapse {
        replica: usize,
    },
    /// The ledger is asked what it says of what is used.
    Prove {
        replica: usize,
    },
    /// The oldest call that was booked at what it held is corrected to what it did cost.
    Correct,
    /// The window resets.
    Reset,
    Cap {
        cap: i128,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let replica = 0..REPLICAS;
    let step = prop_oneof![
        8 => (replica.clone(), 1i128..60, 0i128..=100)
            .prop_map(|(replica, worst, percent)| Step::Reserve { replica, worst, percent }),
        6 => replica.clone().prop_map(|replica| Step::Settle { replica }),
        2 => replica.clone().prop_map(|replica| Step::Release { replica }),
        1 => replica.clone().prop_map(|replica| Step::Panic { replica }),
        8 => (replica.clone(), proptest::bool::weighted(0.9)).prop_map(|(replica, heard)| Step::Round { replica, heard }),
        1 => (replica.clone(), 0usize..4).prop_map(|(replica, written)| Step::Crash { replica, written }),
        1 => replica.clone().prop_map(|replica| Step::Lapse { replica }),
        2 => replica.prop_map(|replica| Step::Prove { replica }),
        2 => Just(Step::Correct),
        1 => Just(Step::Reset),
        1 => (1i128..400).prop_map(|cap| Step::Cap { cap }),
    ];
    proptest::collection::vec(step, 1..60)
}

#[derive(Debug, Clone, Copy)]
struct Call {
    window: u32,
    worst: i128,
    cost: i128,
}

/// A process: what it knows of the current window and of those before.
#[derive(Debug, Default)]
struct Replica {
    worker: u64,
    accounts: BTreeMap<u32, (Account, bool)>,
    /// Calls whose task died: the ledger says nothing of them before their intents are booked.
    died: Vec<Call>,
    calls: Vec<Call>,
    unmet: Vec<i128>,
    recent: i128,
}

/// A call that was booked at what it held.
#[derive(Debug, Clone, Copy)]
struct Guessed {
    worker: u64,
    call: Call,
}

/// Postgres: what each worker was granted of each window, and what the ledger has of it.
#[derive(Debug, Default, Clone, Copy)]
struct Row {
    granted: i128,
    spent: i128,
}

#[derive(Debug)]
struct World {
    cap: i128,
    window: u32,
    rows: BTreeMap<(u32, u64), Row>,
    replicas: Vec<Replica>,
    guessed: Vec<Guessed>,
    workers: u64,
    /// The model: what providers charged, by window, and the highest limit that each of them saw.
    charged: BTreeMap<u32, i128>,
    highest: BTreeMap<u32, i128>,
}

/// What they held in this window.
fn unknown(died: &[Call], window: u32) -> i128 {
    died.iter().filter(|call| call.window == window).map(|call| call.worst).sum()
}

impl World {
    fn new(cap: i128) -> Self {
        let replicas = (0..REPLICAS).map(|n| Replica { worker: n as u64 + 1, ..Replica::default() }).collect();
        let highest = BTreeMap::from([(0, cap)]);
        let workers = REPLICAS as u64 + 1;
        Self {
            cap,
            window: 0,
            rows: BTreeMap::new(),
            replicas,
            guessed: Vec::new(),
            workers,
            charged: BTreeMap::new(),
            highest,
        }
    }

    fn taken(&self, window: u32) -> i128 {
        self.rows.iter().filter(|((w, _), _)| *w == window).map(|(_, row)| row.granted.max(row.spent)).sum()
    }

    fn book(&mut self, worker: u64, window: u32, amount: i128) {
        self.rows.entry((window, worker)).or_default().spent += amount;
    }

    fn charge(&mut self, call: Call) {
        *self.charged.entry(call.window).or_default() += call.cost;
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Reserve { replica, worst, percent } => {
                let window = self.window;
                let replica = &mut self.replicas[replica];
                let (account, _) = replica.accounts.entry(window).or_default();
                if account.take(worst) {
                    replica.recent += worst;
                    replica.calls.push(Call { window, worst, cost: worst * percent / 100 });
                } else {
                    replica.unmet.push(worst);
                }
            }
            Step::Settle { replica } => {
                let Some(call) = self.first(replica) else { return };
                self.charge(call);
                self.book(self.replicas[replica].worker, call.window, call.cost);
                self.account(replica, call.window).settle(call.worst, call.cost);
            }
            Step::Release { replica } => {
                let Some(call) = self.first(replica) else { return };
                self.account(replica, call.window).settle(call.worst, 0);
            }
            Step::Panic { replica } => {
                let Some(call) = self.first(replica) else { return };
                self.charge(call);
                if replica == ONLY_JOBS {
                    self.guess(self.replicas[replica].worker, call);
                    self.account(replica, call.window).forfeit(call.worst);
                } else {
                    self.account(replica, call.window).forfeit(call.worst);
                    self.replicas[replica].died.push(call);
                }
            }
            Step::Round { replica, heard } => self.round(replica, heard),
            Step::Crash { replica, written } => {
                let only_jobs = replica == ONLY_JOBS;
                self.end(replica, if only_jobs { usize::MAX } else { written });
                let worker = self.replicas[replica].worker;
                if only_jobs {
                    let rows = self.rows.iter_mut().filter(|((_, of), _)| *of == worker);
                    rows.for_each(|(_, row)| row.granted = row.spent);
                }
                self.replicas[replica] = Replica { worker: self.workers, ..Replica::default() };
                self.workers += 1;
            }
            Step::Lapse { replica } => {
                self.end(replica, usize::MAX);
                let worker = self.replicas[replica].worker;
                for call in std::mem::take(&mut self.replicas[replica].died) {
                    self.guess(worker, call);
                }
                self.replicas[replica] = Replica { worker, ..Replica::default() };
            }
            Step::Prove { replica } => self.prove(replica),
            Step::Correct => {
                if self.guessed.is_empty() {
                    return;
                }
                let Guessed { worker, call } = self.guessed.remove(0);
                let row = self.rows.entry((call.window, worker)).or_default();
                row.spent += call.cost - call.worst;
                if self.replicas.iter().all(|replica| replica.worker != worker) {
                    row.granted += call.cost - call.worst;
                }
            }
            Step::Reset => {
                self.window += 1;
                self.highest.insert(self.window, self.cap);
            }
            Step::Cap { cap } => {
                self.cap = cap;
                let highest = self.highest.entry(self.window).or_default();
                *highest = cap.max(*highest);
            }
        }
    }

    fn first(&mut self, replica: usize) -> Option<Call> {
        let calls = &mut self.replicas[replica].calls;
        if calls.is_empty() { None } else { Some(calls.remove(0)) }
    }

    fn account(&mut self, replica: usize, window: u32) -> &mut Account {
        &mut self.replicas[replica].accounts.entry(window).or_default().0
    }

    /// Its calls are charged all the same; `written` of them are booked, at what they held.
    fn end(&mut self, replica: usize, written: usize) {
        let worker = self.replicas[replica].worker;
        for (n, call) in std::mem::take(&mut self.replicas[replica].calls).into_iter().enumerate() {
            self.charge(call);
            if n < written {
                self.guess(worker, call);
            }
        }
    }

    fn guess(&mut self, worker: u64, call: Call) {
        self.book(worker, call.window, call.worst);
        self.guessed.push(Guessed { worker, call });
    }

    /// As `prove` does, of what has been loaded; nothing of it is doubtful any more.
    fn prove(&mut self, n: usize) {
        let replica = &mut self.replicas[n];
        for (window, (account, is_loaded)) in &mut replica.accounts {
            if *is_loaded {
                let spent = self.rows.get(&(*window, replica.worker)).map_or(0, |row| row.spent);
                let unknown = unknown(&replica.died, *window);
                account.used -= account.unconfirmed(spent, unknown);
                account.used += account.missing(spent);
            }
        }
    }

    /// As the granter does: old windows give back, then the current one is asked for more.
    fn round(&mut self, n: usize, heard: bool) {
        let (window, cap) = (self.window, self.cap);
        let worker = self.replicas[n].worker;
        self.account(n, window);
        let windows: Vec<u32> = self.replicas[n].accounts.keys().copied().collect();
        for of in windows {
            let is_current = of == window;
            let mine = self.rows.get(&(of, worker)).copied().unwrap_or_default();
            let mine = mine.granted.max(mine.spent);
            let others = self.taken(of) - mine;
            let replica = &mut self.replicas[n];
            let (account, is_loaded) = replica.accounts.get_mut(&of).unwrap();
            let left = cap - others - account.used;
            if !is_current || left * TIGHT < cap {
                account.keep(0);
            }
            let mut after = *account;
            if !*is_loaded {
                after.used += mine;
                after.granted += mine;
            }
            let room = Headroom { cap, others, replicas: REPLICAS as i128, is_open: is_current };
            let (needs, recent) = match is_current {
                true => (std::mem::take(&mut replica.unmet), std::mem::take(&mut replica.recent)),
                false => (Vec::new(), 0),
            };
            after.granted = grant(&after, &needs, recent, room).granted;
            if heard {
                (*account, *is_loaded) = (after, true);
            } else if !*is_loaded {
                // Committed, and never heard of: the next round finds it.
                after.granted = after.granted.max(after.used);
            }
            self.rows.entry((of, worker)).or_default().granted = after.granted.max(after.used);
        }
    }

    fn check(&self) {
        for (window, highest) in &self.highest {
            let charged = self.charged.get(window).copied().unwrap_or(0);
            let under_way: i128 = self
                .replicas
                .iter()
                .flat_map(|replica| &replica.calls)
                .filter(|call| call.window == *window)
                .map(|call| call.worst)
                .sum();
            assert!(charged + under_way <= *highest, "window {window}: {charged} + {under_way} of {highest}");
            let taken = self.taken(*window);
            assert!(taken <= *highest, "window {window}: {taken} of {highest} granted or spent");
        }
    }

    /// Everything ends and is given back: what is not spent, and not lost with the dead or by panics, can be spent by others.
    fn come_to_rest(&mut self) {
        for n in 0..REPLICAS {
            while !self.replicas[n].calls.is_empty() {
                self.step(&Step::Settle { replica: n });
            }
            self.replicas[n].unmet.clear();
            self.replicas[n].recent = 0;
            self.round(n, true);
            for (account, _) in self.replicas[n].accounts.values_mut() {
                account.keep(0);
                assert_eq!(account.reserved, 0, "nothing is under way");
            }
            self.round(n, true);
            self.prove(n);
            for (account, _) in self.replicas[n].accounts.values_mut() {
                account.keep(0);
            }
            self.round(n, true);
            for (window, (account, _)) in &self.replicas[n].accounts {
                let row = self.rows[&(*window, self.replicas[n].worker)];
                let unknown = unknown(&self.replicas[n].died, *window);
                assert_eq!(
                    (row.granted, account.used),
                    (row.spent + unknown, row.spent + unknown),
                    "all else is proven"
                );
            }
        }
        let left = self.cap - self.taken(self.window);
        if left > 0 {
            self.replicas[0].unmet.push(left);
            self.step(&Step::Round { replica: 0, heard: true });
            self.step(&Step::Reserve { replica: 0, worst: left, percent: 100 });
            assert_eq!(self.replicas[0].calls.len(), 1, "the last of it can be spent: {left}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    /// A limit is never overshot, whatever dies; a charge belongs to the window in which it was reserved; nothing leaks.
    #[test]
    fn no_limit_is_overshot(cap in 1i128..400, steps in steps()) {
        let mut world = World::new(cap);
        for step in &steps {
            world.step(step);
            world.check();
        }
        world.come_to_rest();
        world.check();
    }
}
