//! The outbox of alerts: each receiver has a loop of its own, so one that hangs or fails delays no other.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use store::{
    PgConnection,
    alert::{self, Due},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Receiver;
use crate::{
    Notifier,
    outbox::post::Failure,
    outbox::{BATCH, LEASE, Letter, Outbox, Sender},
};

const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Runs until `stop` is cancelled.
pub async fn deliver(notifier: Arc<Notifier>, stop: CancellationToken) {
    let loops = notifier.receivers.iter().map(|receiver| {
        let private_allowed = notifier.private_hosts;
        serve(Sender::new(&notifier.pools.work, Alerts(receiver), private_allowed), &notifier, &stop)
    });
    join_all(loops).await;
}

async fn serve(sender: Sender<'_, Alerts<'_>>, notifier: &Notifier, stop: &CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
        if let Err(error) = sender.deliver_due(notifier.clock.now()).await {
            warn!(receiver = sender.outbox.0.name, %error, "Alerts could not be looked for; they are kept");
        }
    }
}

/// Those of one receiver.
struct Alerts<'e>(&'e Receiver);

impl Outbox for Alerts<'_> {
    type Due = Due;

    fn receiver(&self, due: &Due) -> String {
        format!("alerts.{} {}", self.0.name, due.delivery_id)
    }

    fn tries(&self, due: &Due) -> i32 {
        due.tries
    }

    async fn take(&self, conn: &mut PgConnection) -> store::Result<Vec<Due>> {
        alert::take(conn, &self.0.name, BATCH, LEASE).await
    }

    async fn letter(&self, _: &mut PgConnection, due: &Due) -> store::Result<Result<Letter, Failure>> {
        let keys = self.0.key().into_iter().collect();
        Ok(Ok(Letter { id: due.delivery_id, url: self.0.url.clone(), payload: due.payload.clone(), keys }))
    }

    async fn delivered(&self, conn: &mut PgConnection, due: &Due) -> store::Result<()> {
        alert::delivered(conn, due).await
    }

    async fn failed(
        &self,
        conn: &mut PgConnection,
        due: &Due,
        reason: &str,
        after: Option<Duration>,
    ) -> store::Result<()> {
        alert::failed(conn, due, reason, after).await
    }
}
