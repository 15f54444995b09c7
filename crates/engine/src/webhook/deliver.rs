//! Delivers what waits in the outbox. A row is taken for the length of a lease and no transaction is open during the call, so
//! a receiver that hangs holds nothing up but itself.

use std::{error::Error, time::Duration};

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use rand::RngExt;
use reqwest::{Client, StatusCode, header, redirect};
use secrecy::ExposeSecret;
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};
use store::{
    PgPool,
    outbox::{self, Due},
};
use tracing::{info, warn};

use super::{
    egress::{BadUrl, Egress, check_url},
    secret_bytes,
};
use crate::Engine;

/// For one delivery, from the name's resolution to the answer's head.
const PATIENCE: Duration = Duration::from_secs(10);
/// Taken at once and delivered side by side, so that the lease is never shorter than the work.
const BATCH: i64 = 20;
const LEASE: Duration = Duration::from_secs(60);
/// After the first failure, the second, …; when they are used up, the webhook is given up. Together about a day.
const PAUSES: [Duration; 7] = [
    Duration::from_secs(5),
    Duration::from_secs(60),
    Duration::from_secs(600),
    Duration::from_secs(3_600),
    Duration::from_secs(4 * 3_600),
    Duration::from_secs(8 * 3_600),
    Duration::from_secs(11 * 3_600),
];

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
            Err(reason) => Err(Failure { reason: reason.clone(), is_final: false }),
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
        let url = check_url(&due.url, self.private_allowed)?;
        let id = due.webhook_id.to_string();
        let timestamp = now.timestamp();
        let signature = Webhook::from_bytes(secret_bytes(self.pepper, due.team_id))
            .and_then(|key| key.sign(&id, timestamp, due.payload.as_bytes()))
            .map_err(|error| Failure { reason: error.to_string(), is_final: true })?;
        let answer = client
            .post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(HEADER_WEBHOOK_ID, id)
            .header(HEADER_WEBHOOK_TIMESTAMP, timestamp)
            .header(HEADER_WEBHOOK_SIGNATURE, signature)
            .body(due.payload.clone())
            .send()
            .await?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            // The receiver's way to say that it wants no more of them.
            StatusCode::GONE => Err(Failure { reason: "the receiver answered 410".into(), is_final: true }),
            status => Err(Failure { reason: format!("the receiver answered {}", status.as_u16()), is_final: false }),
        }
    }
}

struct Failure {
    /// Without the URL: it may hold a token.
    reason: String,
    is_final: bool,
}

impl From<BadUrl> for Failure {
    fn from(bad: BadUrl) -> Self {
        Self { reason: bad.to_string(), is_final: true }
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let mut reason = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            reason = format!("{reason}: {inner}");
            cause = inner.source();
        }
        Self { reason, is_final: false }
    }
}

fn build_client(private_allowed: bool) -> Result<Client, String> {
    // Makes ring the process's default for TLS, if that was not done yet.
    let _ = providers::HttpClients::new();
    let built = Client::builder()
        .user_agent(concat!("tollway/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(std::sync::Arc::new(Egress { private_allowed }))
        // A redirect or a proxy would lead past the filter.
        .redirect(redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .timeout(PATIENCE)
        .pool_max_idle_per_host(0)
        .build();
    built.map_err(|error| format!("no HTTP client: {error}"))
}

/// How long to wait after the try of this number failed; `None` after the last.
fn pause(tries: i32, jitter: f64) -> Option<Duration> {
    let nth = usize::try_from(tries - 1).ok()?;
    PAUSES.get(nth).map(|pause| pause.mul_f64(jitter))
}

#[cfg(test)]
mod tests;
