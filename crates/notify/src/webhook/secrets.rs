//! A team's signing secret: made when the team asks for it, shown once, and replaced by another one while both are good for a while.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use domain::{Action, Object};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use standardwebhooks::Webhook;
use store::{
    audit::{self, Change},
    webhook_secret::{self, NewSecret, SecretRow},
};
use uuid::Uuid;

use crate::{
    Notifier,
    seal::{self, Purpose},
};

/// How long the old secret signs beside a new one, by default and at most.
pub const OVERLAP: Duration = Duration::from_secs(24 * 3_600);
pub const MAX_OVERLAP: Duration = Duration::from_secs(30 * 24 * 3_600);

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("there is no such team")]
    NoTeam,
    #[error("the team has a webhook secret since {}, which is not shown again; rotate it to get another one", since(.0))]
    Exists(DateTime<Utc>),
    #[error("the overlap is at most {most} hours (got {0})", most = MAX_OVERLAP.as_secs() / 3_600)]
    Overlap(u64),
    #[error("the secret could not be sealed")]
    Unsealed,
    #[error("the database cannot be reached")]
    Unavailable(#[from] store::Error),
}

fn since(at: &DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

/// Whether a team that has a secret gets another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Only the first.
    First,
    /// Replaces the secret; the old one signs for the overlap.
    Rotate { overlap: Duration },
}

/// A secret that was made this moment.
#[derive(Debug)]
pub struct Made {
    pub secret_id: Uuid,
    /// `whsec_…`: never shown again.
    pub secret: SecretString,
    /// Those that sign now, this one included, the newest first.
    pub active: Vec<SecretRow>,
}

/// Makes a team's secret. `by` is the key that asks.
pub async fn make(notifier: &Notifier, team: &str, turn: Turn, by: &str) -> Result<Made, SecretError> {
    let overlap = match turn {
        Turn::First => Duration::ZERO,
        Turn::Rotate { overlap } if overlap > MAX_OVERLAP => {
            return Err(SecretError::Overlap(overlap.as_secs() / 3_600));
        }
        Turn::Rotate { overlap } => overlap,
    };
    let mut tx = notifier.pools.api.begin().await?;
    let row = store::team::get_by_name(&mut tx, team).await?.ok_or(SecretError::NoTeam)?;
    webhook_secret::lock(&mut tx, row.team_id).await?;
    let before = webhook_secret::active(&mut tx, row.team_id).await?;
    if let (Turn::First, Some(newest)) = (turn, before.first()) {
        return Err(SecretError::Exists(newest.created_at));
    }
    let (secret_id, secret) = (Uuid::now_v7(), new_secret());
    let pepper = notifier.pepper.expose_secret();
    let sealed =
        seal::seal(pepper, Purpose::WebhookSecret(row.team_id), secret.expose_secret()).ok_or(SecretError::Unsealed)?;
    webhook_secret::rotate(&mut tx, NewSecret { secret_id, team_id: row.team_id, sealed: &sealed, by, overlap })
        .await?;
    let details = json!({ "webhook_secret": secret_id, "overlap_s": overlap.as_secs() });
    let object = Object::Team(row.name);
    audit::record_change(&mut tx, Change { object, key_id: Some(by), action: Action::Rotate, details }).await?;
    let active = webhook_secret::active(&mut tx, row.team_id).await?;
    tx.commit().await?;
    Ok(Made { secret_id, secret, active })
}

/// Those that sign now, the newest first. Their texts are sealed.
pub async fn active(notifier: &Notifier, team: &str) -> Result<Vec<SecretRow>, SecretError> {
    let mut conn = notifier.pools.api.acquire().await?;
    let row = store::team::get_by_name(&mut conn, team).await?.ok_or(SecretError::NoTeam)?;
    Ok(webhook_secret::active(&mut conn, row.team_id).await?)
}

fn new_secret() -> SecretString {
    let bytes: [u8; 32] = std::array::from_fn(|_| rand::random());
    format!("whsec_{}", STANDARD.encode(bytes)).into()
}

/// `None`: it was sealed under another pepper.
pub(super) fn key(pepper: &[u8], team_id: i64, sealed: &str) -> Option<Webhook> {
    Webhook::new(&seal::open(pepper, Purpose::WebhookSecret(team_id), sealed)?).ok()
}
