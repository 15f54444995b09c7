//! Sends what waits in an outbox. A message is taken for the length of a lease, and no transaction is open during the call, so a receiver
//! that hangs holds nothing up but itself.

use std::{sync::OnceLock, time::Duration};

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use rand::RngExt;
use reqwest::Client;
use secrecy::{ExposeSecret, SecretString};
use standardwebhooks::Webhook;
use store::{PgConnection, PgPool};
use tracing::{info, warn};
use uuid::Uuid;

use super::policy::next;
use super::post::{Failure, Message, build_client, post};

/// Taken at once and sent side by side, so that the lease is never shorter than the work.
pub const BATCH: i64 = 16;
pub const LEASE: Duration = Duration::from_secs(60);

/// A message as it is sent.
pub struct Letter {
    /// The same in each try: by it a receiver tells a repetition.
    pub id: Uuid,
    pub url: SecretString,
    pub payload: String,
    /// What it is signed with, the newest first; none: its receiver checks no signatures.
    pub keys: Vec<Webhook>,
}

/// Where messages wait. All of it in connections of the caller's.
pub trait Outbox: Sync {
    type Due: Send + Sync;

    /// The receiver, for the log.
    fn receiver(&self, due: &Self::Due) -> String;

    /// What waits longest, at most [`BATCH`]; nobody else takes it before [`LEASE`] is over.
    fn take(&self, conn: &mut PgConnection) -> impl Future<Output = store::Result<Vec<Self::Due>>> + Send;

    /// An error inside: why it cannot be sent, though no receiver has refused it.
    fn letter(
        &self,
        conn: &mut PgConnection,
        due: &Self::Due,
    ) -> impl Future<Output = store::Result<Result<Letter, Failure>>> + Send;

    /// The one under way included.
    fn tries(&self, due: &Self::Due) -> i32;

    fn delivered(&self, conn: &mut PgConnection, due: &Self::Due) -> impl Future<Output = store::Result<()>> + Send;

    /// The next try is `after` from now; `None`: it is given up.
    fn failed(
        &self,
        conn: &mut PgConnection,
        due: &Self::Due,
        reason: &str,
        after: Option<Duration>,
    ) -> impl Future<Output = store::Result<()>> + Send;
}

pub struct Sender<'e, O> {
    pub pool: &'e PgPool,
    pub outbox: O,
    pub private_allowed: bool,
    /// Made when it is needed: it reads the system's certificates.
    client: OnceLock<Result<Client, String>>,
}

impl<'e, O: Outbox> Sender<'e, O> {
    pub fn new(pool: &'e PgPool, outbox: O, private_allowed: bool) -> Self {
        Self { pool, outbox, private_allowed, client: OnceLock::new() }
    }

    /// Sends everything that is due; gives the number that arrived. Errors are the database's: a receiver's go into the outbox.
    /// Receivers refuse signatures that are not of about `now`.
    pub async fn deliver_due(&self, now: DateTime<Utc>) -> store::Result<usize> {
        let mut arrived = 0;
        loop {
            let batch = self.outbox.take(&mut *self.pool.acquire().await?).await?;
            if batch.is_empty() {
                return Ok(arrived);
            }
            let sent = stream::iter(batch).map(|due| self.deliver(due, now)).buffer_unordered(BATCH as usize);
            arrived += sent.try_fold(0, async |sum, ok| Ok(sum + usize::from(ok))).await?;
        }
    }

    async fn deliver(&self, due: O::Due, now: DateTime<Utc>) -> store::Result<bool> {
        let outcome = self.try_once(&due, now).await?;
        let (receiver, tries) = (self.outbox.receiver(&due), self.outbox.tries(&due));
        let mut conn = self.pool.acquire().await?;
        let Err(failure) = outcome else {
            self.outbox.delivered(&mut conn, &due).await?;
            info!(receiver, tries, "Delivered");
            return Ok(true);
        };
        let after = next(failure.why, tries, rand::rng().random_range(0.9..1.1));
        let reason = failure.reason.as_str();
        match after {
            Some(after) => {
                warn!(receiver, tries, reason, again_s = after.as_secs(), "Not delivered; it is tried again");
            }
            None => warn!(receiver, tries, reason, "Not delivered, and given up"),
        }
        self.outbox.failed(&mut conn, &due, reason, after).await?;
        Ok(false)
    }

    async fn try_once(&self, due: &O::Due, now: DateTime<Utc>) -> store::Result<Result<(), Failure>> {
        let letter = self.outbox.letter(&mut *self.pool.acquire().await?, due).await?;
        let letter = match letter {
            Ok(letter) => letter,
            Err(failure) => return Ok(Err(failure)),
        };
        let client = match self.client.get_or_init(|| build_client(self.private_allowed)) {
            Ok(client) => client,
            Err(reason) => return Ok(Err(Failure::of_ours(reason))),
        };
        let Letter { id, url, payload, keys } = &letter;
        let message = Message { id: *id, url: url.expose_secret(), payload, keys };
        Ok(post(client, message, self.private_allowed, now).await)
    }
}
