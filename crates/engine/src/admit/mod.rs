//! Admit: who calls, and what may they do.

mod cache;
mod caller;
mod failures;
mod key;
mod permission;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;
pub use store::job::Scope;

pub use self::{
    cache::{KeyCache, follow_keys},
    caller::Caller,
    failures::{Reason, SignIns},
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
    #[error("the API key expired at {}; create a new one", .0.format("%Y-%m-%dT%H:%M:%SZ"))]
    Expired(DateTime<Utc>),
    #[error(
        "too many refused API keys from this address or with this key id; wait {} s before the next try. A valid key is not limited",
        .0.as_millis().div_ceil(1000)
    )]
    Throttled(Duration),
    #[error("the team {0:?} of this API key is disabled")]
    TeamDisabled(Arc<str>),
    /// Passes by itself.
    #[error("API keys cannot be checked now: the database has been out of reach for too long")]
    Unavailable,
}

/// Authenticates a presented key. A key in the cache costs no round trip. Any other waits for the next read of the
/// table, which all such requests share. So an unknown id, a wrong secret and a revoked key can be told apart neither
/// by the answer nor by its time.
pub async fn authenticate(engine: &Engine, presented: &str, from: Option<IpAddr>) -> Result<Arc<Caller>, AuthError> {
    let (sign_ins, now) = (&engine.keys.sign_ins, Instant::now());
    let fail = |key: Option<&ParsedKey<'_>>, reason: Reason, error: AuthError| {
        sign_ins.count(from, key.map(ParsedKey::id), reason, engine.clock.now());
        metrics::counter!("tollway_sign_ins_failed_total", "reason" => reason.as_str()).increment(1);
        Err(error)
    };
    let key = match ParsedKey::parse(presented) {
        Ok(key) => key,
        Err(bad) => {
            return match sign_ins.spend(from, None, now) {
                Ok(()) => fail(None, Reason::Malformed, bad.into()),
                Err(wait) => fail(None, Reason::Throttled, AuthError::Throttled(wait)),
            };
        }
    };
    let mac = key.mac(engine.pepper.expose_secret());
    let find = || engine.keys.find(&key, &mac, now, engine.clock.now());
    let found = match find() {
        Ok(None) => {
            // Looks are shared and bounded in number, so nobody is limited before one: the key may be new.
            engine.keys.catch_up(&engine.pools.work, now).await?;
            find()
        }
        found => found,
    };
    match found {
        Ok(Some(caller)) => Ok(caller),
        Ok(None) => match sign_ins.spend(from, Some(key.id()), now) {
            Ok(()) => fail(Some(&key), Reason::Unknown, AuthError::Unknown),
            Err(wait) => fail(Some(&key), Reason::Throttled, AuthError::Throttled(wait)),
        },
        Err(error @ AuthError::Expired(_)) => fail(Some(&key), Reason::Expired, error),
        Err(error) => Err(error),
    }
}
