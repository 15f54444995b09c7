//! Delivers what waits in the outbox. A row is taken for the length of a lease and no transaction is open during the call, so
//! a receiver that hangs holds nothing up but itself.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use rand::RngExt;
use reqwest::Client;
use secrecy::ExposeSecret;
use standardwebhooks::Webhook;
use store::{
    PgPool,
    outbox::{self, Due},
};
use tracing::{info, warn};

use super::{
    post::{Failure, Message, build_client, pause, post},
    secret_bytes,
};
use crate::Engine;

/// Taken at once and delivered side by side, so that the lease is never shorter than the work.
const BATCH: i64 = 20;
const LEASE: Duration = Duration::from_secs(60);

/// Delivers everything that is due; gives the number that arrived. Errors are the database's: a receiver's go into the row.
pub async fn deliver_due(engine: &Engine) -> store::Result<usize> {
    let pepper = engine.pepper.expose_secret();
    let sender =
        Sender { pool: &engine.pools.work, pepper, private_allowed: engine.settings.webhooks_to_private_hosts };
    sender.deliver_due(engine.clock.now()).await
}

/// What delivering needs of the engine.
#[derive(Clone, Copy)]
pub struct Sender<'e> {
    pub pool: &'e PgPool,
    pub pepper: &'e [u8],
    pub private_allowed: bool,
}

impl Sender<'_> {
    /// Receivers refuse signatures that are not of about `now`.
    pub async fn deliver_due(self, now: DateTime<Utc>) -> store::Result<usize> {
        let mut arrived = 0;
        let mut client = None;
        loop {
            let batch = outbox::take(&mut *self.pool.acquire().await?, BATCH, LEASE).await?;
            if batch.is_empty() {
                return Ok(arrived);
            }
            // Made when it is needed: it reads the system's certificates.
            let client = match &client {
                Some(client) => client,
                None => client.insert(build_client(self.private_allowed)),
            };
            let outcomes =
                stream::iter(batch).map(|due| self.deliver(client, due, now)).buffer_unordered(BATCH as usize);
            arrived += outcomes.try_fold(0, async |sum, ok| Ok(sum + usize::from(ok))).await?;
        }
    }

    async fn deliver(self, client: &Result<Client, String>, due: Due, now: DateTime<Utc>) -> store::Result<bool> {
        let outcome = match client {
            Ok(client) => self.post(client, &due, now).await,
            Err(reason) => Err(Failure::of_ours(reason)),
        };
        let mut conn = self.pool.acquire().await?;
        let Err(failure) = outcome else {
            outbox::delivered(&mut conn, &due).await?;
            info!(webhook.id = %due.webhook_id, tries = due.tries, "Webhook delivered");
            return Ok(true);
        };
        let after = if failure.is_final { None } else { pause(due.tries, rand::rng().random_range(0.9..1.1)) };
        warn!(webhook.id = %due.webhook_id, tries = due.tries, again = after.is_some(), reason = failure.reason, "Webhook failed");
        outbox::failed(&mut conn, &due, &failure.reason, after).await?;
        Ok(false)
    }

    async fn post(self, client: &Client, due: &Due, now: DateTime<Utc>) -> Result<(), Failure> {
        let key = Webhook::from_bytes(secret_bytes(self.pepper, due.team_id))
            .map_err(|error| Failure { reason: error.to_string(), is_final: true })?;
        let message = Message { id: due.webhook_id, url: &due.url, payload: &due.payload, key: Some(&key) };
        post(client, message, self.private_allowed, now).await
    }
}

#[cfg(test)]
mod tests;
