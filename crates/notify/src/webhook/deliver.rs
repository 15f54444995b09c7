//! The outbox of the webhooks that tell of jobs' ends.

use std::time::Duration;

use domain::Action;
use secrecy::ExposeSecret;
use serde_json::json;
use standardwebhooks::Webhook;
use store::{
    PgConnection,
    audit::{self, Entry},
    outbox::{self, Due},
};
use tracing::error;

use super::{secret_bytes, secrets, url};
use crate::{
    Notifier,
    outbox::{BATCH, LEASE, Letter, Outbox, Reason, Sender, post::Failure},
};

/// Delivers everything that is due; gives the number that arrived. Errors are the database's: a receiver's go into the row.
pub async fn deliver_due(notifier: &Notifier) -> store::Result<usize> {
    let outbox = Webhooks { pepper: notifier.pepper.expose_secret() };
    let sender = Sender::new(&notifier.pools.work, outbox, notifier.private_hosts);
    sender.deliver_due(notifier.clock.now()).await
}

struct Webhooks<'e> {
    pepper: &'e [u8],
}

impl Webhooks<'_> {
    /// What the team's receivers check signatures with: its secrets; without one, what follows from the pepper.
    async fn keys(&self, conn: &mut PgConnection, team_id: i64) -> store::Result<Result<Vec<Webhook>, Failure>> {
        let rows = store::webhook_secret::active(conn, team_id).await?;
        if rows.is_empty() {
            let key = Webhook::from_bytes(secret_bytes(self.pepper, team_id));
            return Ok(key
                .map(|key| vec![key])
                .map_err(|error| Failure { reason: error.to_string(), why: Reason::Hopeless }));
        }
        let keys: Vec<Webhook> =
            rows.iter().filter_map(|row| secrets::key(self.pepper, team_id, &row.sealed)).collect();
        Ok(match keys.is_empty() {
            true => Err(Failure::of_ours("the team's webhook secret was sealed under another pepper; rotate it")),
            false => Ok(keys),
        })
    }
}

impl Outbox for Webhooks<'_> {
    type Due = Due;

    fn receiver(&self, due: &Due) -> String {
        format!("webhook {}", due.webhook_id)
    }

    fn tries(&self, due: &Due) -> i32 {
        due.tries
    }

    async fn take(&self, conn: &mut PgConnection) -> store::Result<Vec<Due>> {
        outbox::take(conn, BATCH, LEASE).await
    }

    async fn letter(&self, conn: &mut PgConnection, due: &Due) -> store::Result<Result<Letter, Failure>> {
        let keys = match self.keys(conn, due.team_id).await? {
            Ok(keys) => keys,
            Err(failure) => return Ok(Err(failure)),
        };
        let Some(url) = url::open(self.pepper, &due.url) else {
            error!(webhook.id = %due.webhook_id, "A webhook's URL was sealed under another pepper");
            return Ok(Err(Failure::of_ours("its URL was sealed under another pepper")));
        };
        Ok(Ok(Letter { id: due.webhook_id, url, payload: due.payload.clone(), keys }))
    }

    async fn delivered(&self, conn: &mut PgConnection, due: &Due) -> store::Result<()> {
        outbox::delivered(conn, due).await
    }

    /// One that is given up is said in the job's history too.
    async fn failed(
        &self,
        conn: &mut PgConnection,
        due: &Due,
        reason: &str,
        after: Option<Duration>,
    ) -> store::Result<()> {
        let mut tx = store::begin(conn).await?;
        outbox::failed(&mut tx, due, reason, after).await?;
        if after.is_none() {
            let details = json!({ "webhook": due.webhook_id, "tries": due.tries, "reason": reason });
            let entry = Entry { job_id: due.job_id, key_id: None, action: Action::GiveUp, details };
            audit::record(&mut tx, entry).await?;
        }
        tx.commit().await
    }
}

#[cfg(test)]
mod tests;
