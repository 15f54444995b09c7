//! What can be settled.

use domain::LedgerRow;
use foldhash::HashSet;
use store::{
    lease::{Advance, LeaseKey},
    retry::NewRetry,
    settlement::NewResult,
};
use tokio::sync::oneshot;

use admission::Admission;

/// How a lease ends.
#[derive(Debug)]
pub enum Then {
    Result(NewResult),
    Retry(NewRetry),
}

#[derive(Debug)]
pub struct Settlement {
    pub key: LeaseKey,
    pub job_id: i64,
    pub ledger: LedgerRow,
    pub then: Then,
    pub admission: Admission,
}

/// A claimed request that was not called goes back to the queue.
#[derive(Debug)]
pub struct Release {
    pub key: LeaseKey,
    pub job_id: i64,
    pub retry: NewRetry,
    pub admission: Admission,
}

/// A synchronous call's row; its intent ends with it.
#[derive(Debug)]
pub struct Direct {
    pub ledger: LedgerRow,
    pub admission: Admission,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "the large ones are boxed already")]
pub enum Op {
    Settle(Box<Settlement>),
    /// One attempt failed and the next begins once this is committed; the answer says whether the lease is still held.
    Advance {
        advance: Advance,
        job_id: i64,
        ledger: Box<LedgerRow>,
        /// The resources of the attempt that failed.
        admission: Admission,
        held: Option<oneshot::Sender<bool>>,
    },
    Release(Box<Release>),
    Direct(Box<Direct>),
}

impl Op {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Settle(s) => match &s.then {
                Then::Result(r) => {
                    1_024
                        + r.body.as_ref().map_or(0, bytes::Bytes::len)
                        + r.vectors.as_ref().map_or(0, bytes::Bytes::len)
                }
                Then::Retry(_) => 1_024,
            },
            _ => 1_024,
        }
    }

    pub(super) fn ledger(&self) -> Option<&LedgerRow> {
        match self {
            Self::Settle(settlement) => Some(&settlement.ledger),
            Self::Advance { ledger, .. } => Some(ledger),
            Self::Direct(direct) => Some(&direct.ledger),
            Self::Release(_) => None,
        }
    }

    /// The call's row in the ledger.
    pub(super) fn ledger_mut(&mut self) -> Option<&mut LedgerRow> {
        match self {
            Self::Settle(settlement) => Some(&mut settlement.ledger),
            Self::Advance { ledger, .. } => Some(ledger),
            Self::Direct(direct) => Some(&mut direct.ledger),
            Self::Release(_) => None,
        }
    }

    pub(super) fn request_id(&self) -> Option<&str> {
        match self {
            Self::Settle(settlement) => Some(&settlement.ledger.request_id),
            Self::Advance { ledger, .. } => Some(&ledger.request_id),
            Self::Direct(direct) => Some(&direct.ledger.request_id),
            Self::Release(_) => None,
        }
    }

    /// Returns everything except the reservation before the commit.
    pub(super) fn let_go(&mut self) {
        match self {
            Self::Settle(settlement) => settlement.admission.leave_limits(),
            Self::Release(release) => release.admission.leave_limits(),
            Self::Advance { .. } | Self::Direct(_) => {}
        }
    }

    /// The lease that ends with it.
    pub(super) fn ended(&self) -> Option<&LeaseKey> {
        match self {
            Self::Settle(settlement) => Some(&settlement.key),
            Self::Release(release) => Some(&release.key),
            Self::Advance { .. } | Self::Direct(_) => None,
        }
    }

    /// Called after the commit: returns the resources and notifies those that wait.
    pub(super) fn done(self, lost: &HashSet<LeaseKey>) {
        match self {
            Self::Settle(settlement) => settlement.admission.settle(&settlement.ledger),
            // The process that took over the lease booked the call as made.
            Self::Release(release) if lost.contains(&release.key) => release.admission.forfeit(),
            Self::Release(release) => release.admission.release(),
            Self::Direct(direct) => direct.admission.settle(&direct.ledger),
            Self::Advance { advance, ledger, admission, held, .. } => {
                admission.settle(&ledger);
                if let Some(held) = held {
                    let _ = held.send(!lost.contains(&advance.key));
                }
            }
        }
    }
}
