//! What a caller asked for, once it was admitted.

use std::sync::Arc;

use admission::{
    budgets::ReservationRequest,
    catalog::{ActiveCatalog, ActiveRoute},
};
use bytes::Bytes;
use domain::{Endpoint, LedgerRow, Money};
use tokio_util::sync::CancellationToken;

use super::Meta;
use crate::{
    Engine,
    failover::Flight,
    meter::{Attempt, Subject},
    settle::{Direct as Settled, Op},
};

pub(super) struct SyncCall {
    pub subject: Subject,
    pub endpoint: Endpoint,
    pub body: Bytes,
    pub stream: bool,
    pub route: Arc<ActiveRoute>,
    pub catalog: Arc<ActiveCatalog>,
    pub ask: ReservationRequest,
    /// Cancelled when calls may run no longer.
    pub cut: CancellationToken,
}

impl SyncCall {
    pub fn text(&self) -> &str {
        // Admission parsed it as a str.
        std::str::from_utf8(&self.body).unwrap_or_default()
    }

    /// Books the call that ended; what it held of limits comes back at once, the money with the commit.
    pub async fn book(&self, engine: &Engine, flight: &mut Flight, ledger: LedgerRow) {
        let mut admission = std::mem::take(&mut flight.admission);
        admission.leave_limits();
        engine.settler.put(Op::Direct(Box::new(Settled { ledger, admission }))).await;
    }

    pub fn meta(&self, attempt: &Attempt, model: Option<String>, cost_usd: Option<Money>) -> Meta {
        Meta {
            request_id: self.subject.request_id.clone(),
            deployment: Arc::clone(&attempt.deployment.name),
            model: model.unwrap_or_else(|| attempt.deployment.spec.model.clone()),
            attempts: attempt.no.unsigned_abs(),
            cost_usd,
        }
    }
}
