//! One transaction that settles a batch.

use std::{borrow::Cow, collections::BTreeMap};

use admission::budgets::{self, RowsOf};
use domain::{
    AttemptId, AttemptStatus, LedgerRow,
    ledger::{PriceStatus, RecordKind},
};
use foldhash::{HashMap, HashSet, HashSetExt};
use store::{
    PgConnection,
    lease::{Advance, LeaseKey},
    ledger::UnknownRow,
    retry::NewRetry,
    settlement::{NewResult, Tally},
};
use tracing::warn;

use super::op::{Op, Then};
use crate::Engine;

pub(super) struct Done {
    /// Jobs of which a request ended.
    pub jobs: HashSet<i64>,
    /// Leases that somebody else holds by now.
    pub lost: HashSet<LeaseKey>,
    /// Writes whose lease was lost.
    pub stale: u64,
}

/// Commits the batch. `again`: an earlier try failed, perhaps after its commit, so its own rows may be there already.
pub(super) async fn commit(engine: &Engine, ops: &[Op], again: bool) -> store::Result<Done> {
    let mut tx = store::settlement::begin(&engine.pools.work).await?;
    let done = write(&mut tx, engine, ops, again).await?;
    tx.commit().await?;
    Ok(done)
}

async fn write(conn: &mut PgConnection, engine: &Engine, ops: &[Op], again: bool) -> store::Result<Done> {
    let ending: Vec<LeaseKey> = ops
        .iter()
        .filter_map(|op| match op {
            Op::Settle(s) => Some(s.key),
            Op::Release(r) => Some(r.key),
            _ => None,
        })
        .collect();
    let advances: Vec<Advance> = ops
        .iter()
        .filter_map(|op| match op {
            Op::Advance { advance, .. } => Some(advance.clone()),
            _ => None,
        })
        .collect();
    let directs: Vec<AttemptId> = ops
        .iter()
        .filter_map(|op| match op {
            Op::Direct(direct) => Some(direct.ledger.attempt_id),
            _ => None,
        })
        .collect();

    let mut held: HashSet<LeaseKey> = HashSet::with_capacity(ops.len());
    if !ending.is_empty() {
        held.extend(store::lease::end(conn, &ending).await?);
    }
    if !advances.is_empty() {
        held.extend(store::lease::advance(conn, &advances).await?);
    }
    let mut intended: HashSet<AttemptId> = HashSet::default();
    if !directs.is_empty() {
        intended.extend(store::intent::end(conn, &directs).await?);
    }
    let booked = booked_before(conn, ops, &held, &intended, again).await?;

    let mut sorted = Sorted::default();
    for op in ops {
        sorted.add(op, &held, &booked);
    }
    store::settlement::insert_results(conn, &sorted.results).await?;
    store::retry::insert(conn, &sorted.retries).await?;
    if let Some(revision) = store::ledger::insert(conn, &sorted.ledger).await? {
        let rows = sorted.ledger.iter().map(AsRef::as_ref);
        budgets::book_rows(conn, &engine.control.budgets, rows, revision, RowsOf::ThisProcess).await?;
    }
    // Last: the settlers of this process all add to the same rows, so each waits here until the one before it has committed.
    store::settlement::add_tallies(conn, engine.worker_id, &sorted.tallies).await?;
    Ok(Done { jobs: sorted.jobs, lost: sorted.lost, stale: sorted.stale })
}

/// What the ledger already says of attempts whose lease is gone, or that may have been committed by the last try.
struct Booked {
    known: HashSet<AttemptId>,
    unknown: HashMap<AttemptId, UnknownRow>,
}

async fn booked_before(
    conn: &mut PgConnection,
    ops: &[Op],
    held: &HashSet<LeaseKey>,
    intended: &HashSet<AttemptId>,
    again: bool,
) -> store::Result<Booked> {
    let suspects: Vec<AttemptId> = ops
        .iter()
        .filter_map(|op| match op {
            Op::Settle(s) if !held.contains(&s.key) => Some(s.ledger.attempt_id),
            Op::Advance { advance, ledger, .. } if again || !held.contains(&advance.key) => Some(ledger.attempt_id),
            // Its intent was never written, or taken by a reaper that thought this process dead.
            Op::Direct(direct) if !intended.contains(&direct.ledger.attempt_id) => Some(direct.ledger.attempt_id),
            _ => None,
        })
        .collect();
    if suspects.is_empty() {
        return Ok(Booked { known: HashSet::default(), unknown: HashMap::default() });
    }
    let known = store::ledger::known(conn, &suspects).await?.into_iter().collect::<HashSet<_>>();
    let unknown = if known.is_empty() { Vec::new() } else { store::ledger::unknown_of(conn, &suspects).await? };
    Ok(Booked { known, unknown: unknown.into_iter().map(|row| (row.attempt_id, row)).collect() })
}

/// The rows of the transaction.
#[derive(Default)]
struct Sorted<'a> {
    results: Vec<&'a NewResult>,
    retries: Vec<NewRetry>,
    ledger: Vec<Cow<'a, LedgerRow>>,
    tallies: BTreeMap<i64, Tally>,
    jobs: HashSet<i64>,
    lost: HashSet<LeaseKey>,
    stale: u64,
}

impl<'a> Sorted<'a> {
    fn add(&mut self, op: &'a Op, held: &HashSet<LeaseKey>, booked: &Booked) {
        match op {
            Op::Settle(s) => {
                if held.contains(&s.key) {
                    let tally = self.book(s.job_id, Cow::Borrowed(&s.ledger));
                    match &s.then {
                        Then::Result(result) => {
                            tally.succeeded += i64::from(result.ok);
                            tally.failed += i64::from(!result.ok);
                            self.results.push(result);
                        }
                        Then::Retry(retry) => self.retries.push(retry.clone()),
                    }
                    // After a retry too: the job may have been cancelled meanwhile.
                    self.jobs.insert(s.job_id);
                } else {
                    self.fenced(Some(s.job_id), &s.ledger, booked);
                }
            }
            Op::Advance { advance, job_id, ledger, .. } => {
                if booked.known.contains(&ledger.attempt_id) && held.contains(&advance.key) {
                    // The last try was committed after all.
                } else if held.contains(&advance.key) {
                    self.book(*job_id, Cow::Borrowed(&**ledger));
                } else {
                    self.lost.insert(advance.key);
                    self.fenced(Some(*job_id), ledger, booked);
                }
            }
            Op::Release(release) => {
                if held.contains(&release.key) {
                    self.retries.push(release.retry.clone());
                    // It may have been cancelled meanwhile.
                    self.jobs.insert(release.job_id);
                } else {
                    self.lost.insert(release.key);
                }
            }
            Op::Direct(direct) => {
                if booked.known.contains(&direct.ledger.attempt_id) {
                    self.fenced(None, &direct.ledger, booked);
                } else {
                    self.ledger.push(Cow::Borrowed(&direct.ledger));
                }
            }
        }
    }

    /// Takes the row, and counts it for its job.
    fn book(&mut self, job_id: i64, row: Cow<'a, LedgerRow>) -> &mut Tally {
        self.ledger.push(row);
        let row = &self.ledger[self.ledger.len() - 1];
        let tally = self.tallies.entry(job_id).or_default();
        tally.attempts += 1;
        match row.contracted_cost {
            Some(cost) => tally.cost_pico += i128::from(cost),
            None => tally.unpriced += 1,
        }
        tally
    }

    fn book_late(&mut self, job_id: Option<i64>, row: LedgerRow) {
        match job_id {
            Some(job_id) => {
                self.book(job_id, Cow::Owned(row));
            }
            None => self.ledger.push(Cow::Owned(row)),
        }
    }

    /// The lease is somebody else's. The call was made all the same: its unknown row is corrected to what it did cost.
    fn fenced(&mut self, job_id: Option<i64>, row: &LedgerRow, booked: &Booked) {
        if let Some(unknown) = booked.unknown.get(&row.attempt_id) {
            self.stale += 1;
            let correction = adjustment(row, unknown);
            self.book_late(job_id, correction);
        } else if !booked.known.contains(&row.attempt_id) {
            // Returned unbooked, because it was taken for not started. It was, so it is booked as it was.
            self.stale += 1;
            warn!(request.id = %row.request_id, "A call ended after its lease was returned; booked without a result");
            let late = LedgerRow { is_final: false, ..row.clone() };
            self.book_late(job_id, late);
        }
    }
}

/// What turns an unknown row's figures into the real ones.
fn adjustment(real: &LedgerRow, unknown: &UnknownRow) -> LedgerRow {
    let less = |a: Option<i64>, b: Option<i64>| a.map(|a| a - b.unwrap_or(0));
    let delta = less(real.contracted_cost, unknown.contracted_cost);
    LedgerRow {
        attempt_id: store::ledger::adjustment_id(real.attempt_id),
        corrects_attempt_id: Some(real.attempt_id),
        record_kind: RecordKind::Adjustment.as_str().to_owned(),
        is_final: false,
        status: AttemptStatus::Succeeded.as_str().to_owned(),
        // The unknown row's charge stands in one sum; so does its correction.
        cost_input: None,
        cost_cache_read: None,
        cost_cache_write: None,
        cost_output: None,
        cost_other: delta,
        contracted_cost: delta,
        list_cost: less(real.list_cost, unknown.list_cost),
        cost_if_uncached: None,
        cost_if_not_batch: None,
        price_status: if delta.is_some() {
            real.price_status.clone()
        } else {
            PriceStatus::Unpriced.as_str().to_owned()
        },
        ..real.clone()
    }
}
