//! Messages of other replicas about grants: which limits and budgets they are short of, and what they returned.

use std::time::Duration;

use store::limit::{CHANNEL, Word};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::AdmissionControl;

const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// Listens to other replicas until cancelled. If the connection is lost, the next tick finds the same facts in the
/// database.
pub(crate) async fn listen(control: &AdmissionControl, stop: &CancellationToken) {
    loop {
        let heard = async {
            let mut listener = store::connect::listen(&control.pools.work, CHANNEL).await?;
            loop {
                if let Some(word) = Word::parse(listener.recv().await?.payload()) {
                    take_in(control, &word);
                }
            }
        };
        let lost: store::Result<()> = tokio::select! {
            () = stop.cancelled() => return,
            lost = heard => lost,
        };
        if let Err(error) = lost {
            warn!(%error, "The connection that listens to other replicas was lost; connecting again");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RECONNECT_AFTER) => {}
        }
    }
}

fn take_in(control: &AdmissionControl, word: &Word) {
    match word {
        Word::Asked { by, .. } | Word::Freed { by, .. } | Word::Short { by, .. } if *by == control.worker_id => {}
        Word::Asked { limits, .. } => control.limits.asked_for(limits),
        Word::Freed { limits, .. } => control.limits.freed(limits),
        Word::Short { budgets, .. } => control.budgets.asked_for(budgets),
    }
}
