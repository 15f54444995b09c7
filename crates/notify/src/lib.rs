//! Telling others: webhooks of jobs that ended, and alerts. Each has an outbox of its own in the database, filled in the transaction of
//! what is told; one sender with one retry policy empties both.

pub mod alerts;
mod notifier;
mod outbox;
pub mod seal;
pub mod webhook;

#[cfg(test)]
mod testing;

pub use notifier::Notifier;
