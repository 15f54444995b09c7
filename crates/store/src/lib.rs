//! All SQL of Tollway: one module per noun, in the order in which a request meets them. The caller owns the transaction:
//! functions take a connection, and say in their docs when they need to be inside a transaction.

#![warn(clippy::unwrap_used)]

pub mod connect;
pub mod copy;

pub mod alert;
pub mod audit;
pub mod budget;
pub mod claim;
pub mod config;
pub mod dependency;
pub mod deployment_order;
pub mod export_segment;
pub mod failure;
pub mod flow;
pub mod idempotency;
pub mod ingest;
pub mod intent;
pub mod job;
pub mod job_counters;
pub mod key;
pub mod lane;
pub mod lease;
pub mod ledger;
pub mod limit;
pub mod outbox;
pub mod pause;
pub mod quota;
pub mod recent;
pub mod result;
pub mod retention;
pub mod retry;
pub mod retry_lineage;
pub mod schedule;
pub mod settlement;
pub mod share;
pub mod team;
pub mod webhook_secret;
pub mod worker;

pub use connect::{Pools, begin, connect, migrate};
pub use sqlx::{Error, PgConnection, PgPool};

pub type Transaction<'c> = sqlx::Transaction<'c, sqlx::Postgres>;
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The SQLSTATE by which the database refused a row for what is in it: tried again as it is, it would be refused again. `None`:
/// the connection, the server, the schema or the moment was to blame.
pub fn refusal(error: &Error) -> Option<String> {
    let error = error.as_database_error()?;
    let code = error.code()?;
    let refuses = match code.get(..2)? {
        // Data, and limits of a row: see the manual, appendix A.
        "22" | "54" => true,
        // A missing partition is a violation too, of no constraint.
        "23" => code == "23502" || error.constraint().is_some(),
        _ => false,
    };
    refuses.then(|| code.into_owned())
}
