//! Settling: results, ledger rows and the ends of leases go to Postgres in batches, each in one transaction.

mod batch;
mod op;
mod refused;

use std::{
    panic::resume_unwind,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use foldhash::HashSet;
use metrics::{counter, histogram};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
};
use tracing::warn;

pub use op::{Direct, Op, Release, Settlement, Then};

use self::{batch::Done, refused::Weight};
use crate::Engine;

/// The most operations that wait to be settled. Beyond that, calls wait before they begin; nothing is ever dropped.
const QUEUE: usize = 8_192;
/// The most of one transaction, which is what a fast burst makes of them.
const LARGEST_BATCH: usize = 2_048;
/// The largest payload of one transaction, so that large answers make small batches.
const LARGEST_BYTES: usize = 16 << 20;
/// Transactions side by side: one that is written while another is flushed. More make smaller ones, which cost more.
const AT_ONCE: usize = 2;
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// Where things to be settled are handed in.
#[derive(Debug)]
pub struct Settler {
    send: mpsc::Sender<Op>,
    /// Jobs some of whose requests ended: the finisher looks whether any is done.
    touched: Mutex<HashSet<i64>>,
    pub(crate) touch: Notify,
}

/// The other end, for [`run`].
pub struct Queue(mpsc::Receiver<Op>);

impl Settler {
    pub fn new() -> (Self, Queue) {
        let (send, receive) = mpsc::channel(QUEUE);
        (Self { send, touched: Mutex::default(), touch: Notify::new() }, Queue(receive))
    }

    /// Hands in; waits when too much is waiting.
    pub async fn put(&self, op: Op) {
        // The queue closes only after everything that hands in has ended.
        let _ = self.send.send(op).await;
    }

    pub(crate) fn touched(&self, jobs: impl Iterator<Item = i64>) {
        let mut touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        let before = touched.len();
        touched.extend(jobs);
        if touched.len() > before {
            self.touch.notify_one();
        }
    }

    pub(crate) fn take_touched(&self) -> HashSet<i64> {
        std::mem::take(&mut *self.touched.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Settles until `stop` is cancelled and the queue is empty. While Postgres is away it keeps trying: what was called must be booked.
///
/// A transaction is a chain of short statements, so most of its time is round trips: a few run side by side, and what comes in
/// while all are busy makes the next one larger. Two of them never hold the same lease, and take tallies in the same order.
pub async fn run(engine: Arc<Engine>, Queue(mut queue): Queue, stop: tokio_util::sync::CancellationToken) {
    let mut running = JoinSet::new();
    let mut next = None;
    loop {
        let first = match next.take() {
            Some(op) => op,
            None => tokio::select! {
                biased;
                op = queue.recv() => match op { Some(op) => op, None => break },
                () = stop.cancelled() => break,
            },
        };
        while running.len() >= AT_ONCE {
            running.join_next().await.transpose().unwrap_or_else(|error| resume_unwind(error.into_panic()));
        }
        let mut bytes = first.bytes();
        let mut ops = vec![first];
        while ops.len() < LARGEST_BATCH {
            let Ok(op) = queue.try_recv() else { break };
            bytes += op.bytes();
            if bytes > LARGEST_BYTES {
                next = Some(op);
                break;
            }
            ops.push(op);
        }
        running.spawn(settle(Arc::clone(&engine), ops));
    }
    running.join_all().await;
}

/// Something to be committed in one transaction.
struct Batch {
    ops: Vec<Op>,
    /// An earlier try failed, perhaps after its commit.
    again: bool,
    weight: Weight,
}

/// Commits one batch, with as many retries as it takes. A row that the database rejects is found by bisection, so that
/// it blocks nothing else.
async fn settle(engine: Arc<Engine>, ops: Vec<Op>) {
    let began = Instant::now();
    histogram!("tollway_settle_batch").record(ops.len() as f64);
    let mut batches = vec![Batch { ops, again: false, weight: Weight::Whole }];
    while let Some(mut batch) = batches.pop() {
        let error = match batch::commit(&engine, &batch.ops, batch.again).await {
            Ok(done) => {
                finish(&engine, batch.ops, &done);
                continue;
            }
            Err(error) => error,
        };
        if store::refusal(&error).is_none() {
            warn!(%error, waiting = batch.ops.len(), "Results could not be stored; trying again");
            tokio::time::sleep(RETRY_INTERVAL).await;
            batches.push(Batch { again: true, ..batch });
        } else if batch.ops.len() > 1 {
            let rest = batch.ops.split_off(batch.ops.len() / 2);
            batches.push(Batch { ops: rest, ..batch });
            batches.push(batch);
        } else if let Some(mut op) = batch.ops.pop() {
            match refused::lighter(&mut op, batch.weight, &error) {
                Some(weight) => batches.push(Batch { ops: vec![op], weight, ..batch }),
                None => refused::keep_trying(Arc::clone(&engine), op),
            }
        }
    }
    histogram!("tollway_settle_duration_seconds").record(began.elapsed().as_secs_f64());
}

/// Notifies those that wait for the batch, and returns its resources.
fn finish(engine: &Engine, ops: Vec<Op>, done: &Done) {
    counter!("tollway_stale_writes_total").increment(done.stale);
    engine.settler.touched(done.jobs.iter().copied());
    engine.live.remove(ops.iter().filter_map(Op::ended));
    engine.notifier.notices.see(ops.iter().filter_map(Op::ledger));
    for op in ops {
        op.done(&done.lost);
    }
    engine.control.budgets.freed();
}
