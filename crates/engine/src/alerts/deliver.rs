//! Brings alerts to their receivers: each receiver has a loop of its own, so one that hangs or fails delays no other.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, future::join_all, stream};
use rand::RngExt;
use reqwest::Client;
use secrecy::ExposeSecret;
use standardwebhooks::Webhook;
use store::{
    PgPool,
    alert::{self, Due},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Receiver;
use crate::{
    Engine,
    webhook::post::{Failure, Message, build_client, pause, post},
};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Taken at once and sent side by side, so that the lease is never shorter than the work.
const BATCH: i64 = 8;
const LEASE: Duration = Duration::from_secs(60);
/// Beyond what webhooks are given: an outage of a receiver over a weekend.
const LATE_TRIES: i32 = 6;
const LATE_PAUSE: Duration = Duration::from_secs(12 * 3_600);

/// Runs until `stop` is cancelled.
pub async fn deliver(engine: Arc<Engine>, stop: CancellationToken) {
    let receivers = &engine.settings.alerts;
    if receivers.is_empty() {
        return;
    }
    let private_allowed = engine.settings.webhooks_to_private_hosts;
    let client = build_client(private_allowed);
    let loops = receivers.iter().map(|receiver| {
        let client = client.as_ref().map_err(String::as_str);
        let sender = Sender { pool: &engine.pools.work, receiver, key: receiver.key(), client, private_allowed };
        serve(sender, &engine, &stop)
    });
    join_all(loops).await;
}

async fn serve(sender: Sender<'_>, engine: &Engine, stop: &CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if let Err(error) = sender.deliver_due(engine.clock.now()).await {
            warn!(receiver = sender.receiver.name, %error, "Alerts could not be looked for; they are kept");
        }
    }
}

struct Sender<'e> {
    pool: &'e PgPool,
    receiver: &'e Receiver,
    key: Option<Webhook>,
    client: Result<&'e Client, &'e str>,
    private_allowed: bool,
}

impl Sender<'_> {
    /// Everything that is due at this receiver. Errors are the database's: the receiver's go into the row.
    async fn deliver_due(&self, now: DateTime<Utc>) -> store::Result<()> {
        loop {
            let batch = alert::take(&mut *self.pool.acquire().await?, &self.receiver.name, BATCH, LEASE).await?;
            if batch.is_empty() {
                return Ok(());
            }
            let sent = stream::iter(batch).map(|due| self.deliver(due, now)).buffer_unordered(BATCH as usize);
            sent.try_collect::<()>().await?;
        }
    }

    async fn deliver(&self, due: Due, now: DateTime<Utc>) -> store::Result<()> {
        let outcome = match self.client {
            Ok(client) => {
                let (url, key) = (self.receiver.url.expose_secret(), self.key.as_ref());
                let message = Message { id: due.delivery_id, url, payload: &due.payload, key };
                post(client, message, self.private_allowed, now).await
            }
            Err(reason) => Err(Failure::of_ours(reason)),
        };
        let (receiver, tries) = (self.receiver.name.as_str(), due.tries);
        let mut conn = self.pool.acquire().await?;
        let Err(failure) = outcome else {
            info!(receiver, delivery.id = %due.delivery_id, tries, "Alert delivered");
            return alert::delivered(&mut conn, &due).await;
        };
        let after = if failure.is_final { None } else { next(tries, rand::rng().random_range(0.9..1.1)) };
        warn!(receiver, delivery.id = %due.delivery_id, tries, again = after.is_some(), reason = failure.reason, "Alert not delivered");
        alert::failed(&mut conn, &due, &failure.reason, after).await
    }
}

/// How long to wait after the try of this number failed; `None` after the last, some days after the first.
fn next(tries: i32, jitter: f64) -> Option<Duration> {
    pause(tries, jitter).or_else(|| pause(tries - LATE_TRIES, 1.0).map(|_| LATE_PAUSE.mul_f64(jitter)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_given_up_after_days() {
        let waits: Vec<Duration> = (1..).map_while(|tries| next(tries, 1.0)).collect();
        let total: Duration = waits.iter().sum();
        let day = Duration::from_secs(24 * 3600);
        assert!((3 * day..5 * day).contains(&total), "{total:?}");
        assert!(waits.is_sorted(), "{waits:?}");
        assert!(waits[0] < Duration::from_secs(10));
    }
}
