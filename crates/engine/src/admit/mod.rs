//! Admit: who calls, and what may they do.

mod cache;
mod caller;
mod key;
mod permission;

use std::{sync::Arc, time::Instant};

use secrecy::ExposeSecret;
pub use store::job::Scope;

pub use self::{
    cache::{KeyCache, follow_keys},
    caller::Caller,
    key::{BadKey, Minted, ParsedKey, PresentedKey, mint},
    permission::Permission,
};
use crate::Engine;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("no API key: send it as \"Authorization: Bearer tw_…\" or as \"x-api-key: tw_…\"")]
    Missing,
    #[error("the API key is not well-formed: {0}")]
    Malformed(#[from] BadKey),
    #[error("the API key is unknown or was revoked")]
    Unknown,
    #[error("the team {0:?} of this API key is disabled")]
    TeamDisabled(Arc<str>),
    /// Passes by itself.
    #[error("API keys cannot be checked now: the database has been out of reach for too long")]
    Unavailable,
}

/// Who presents this key. A key that the cache knows costs no round trip; one that it does not know waits for the next
/// look at the table, however many ask.
pub async fn authenticate(engine: &Engine, presented: &str) -> Result<Arc<Caller>, AuthError> {
    let key = ParsedKey::parse(presented)?;
    let mac = key.mac(engine.pepper.expose_secret());
    match engine.keys.find(&key, &mac, Instant::now())? {
        Some(caller) => Ok(caller),
        None => {
            engine.keys.catch_up(&engine.pools.work, Instant::now()).await?;
            engine.keys.find(&key, &mac, Instant::now())?.ok_or(AuthError::Unknown)
        }
    }
}
