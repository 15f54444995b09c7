//! Telling others: webhooks of jobs that ended, and alerts. Each has an outbox of its own in the database, filled in the transaction of
//! what is told; one sender with one retry policy empties both.

pub mod alerts;
mod outbox;
pub mod seal;
pub mod webhook;

#[cfg(test)]
mod testing;

use std::sync::Arc;

use admission::clock::Clock;
use secrecy::SecretBox;
use store::Pools;

use self::alerts::{Notices, Receiver};

/// What the senders of webhooks and alerts share. One per process, shared behind an `Arc`.
pub struct Notifier {
    pub pools: Pools,
    pub clock: Clock,
    /// Of alerts, as the configuration declares them.
    pub receivers: Vec<Receiver>,
    /// Whether messages may go to private addresses.
    pub private_hosts: bool,
    /// Webhooks' secrets and addresses are sealed under it.
    pub pepper: Arc<SecretBox<[u8; 32]>>,
    /// What calls say of their providers that somebody is to be told of.
    pub notices: Notices,
}
