//! All SQL of Tollway: one module per noun, in the order in which a request meets them. The caller owns the transaction:
//! functions take a connection, and say in their docs when they need to be inside a transaction.

pub mod connect;
pub mod copy;

pub mod team;
pub mod key;
pub mod config;
pub mod worker;
pub mod job;
pub mod idempotency;
pub mod ingest;
pub mod share;
pub mod claim;
pub mod lease;
pub mod retry;
pub mod complete;
pub mod flow;
pub mod result;
pub mod limit;
pub mod intent;
pub mod ledger;
pub mod segment;
pub mod outbox;
pub mod retention;

pub use connect::{Pools, connect, migrate};
pub use sqlx::{Error, PgConnection, PgPool};

pub type Result<T, E = Error> = std::result::Result<T, E>;
