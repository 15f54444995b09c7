//! The nouns of Tollway, without any I/O. Modules stand in the order in which a request meets them.

#![warn(clippy::unwrap_used)]

pub mod alert;
pub mod attempt;
pub mod audit;
pub mod budget;
pub mod catalog;
pub mod cron;
pub mod dependency;
pub mod failure;
pub mod ids;
pub mod job;
pub mod lane;
pub mod ledger;
pub mod line;
pub mod manifest;
pub mod money;
pub mod pause;
pub mod progress;
pub mod role;
pub mod schedule;
pub mod tags;
pub mod usage;
pub mod waits;

pub use alert::{Alert, AlertKind};
pub use attempt::{AttemptReason, AttemptStatus, ErrorClass};
pub use audit::{Action, AuditLine, Object};
pub use budget::Budget;
pub use catalog::{Catalog, Deployment, Route};
pub use dependency::{After, AfterOn};
pub use failure::{FailureGroup, Failures, RetryFilter};
pub use ids::{AttemptId, JobId, RequestId};
pub use job::{Counts, Job, JobState};
pub use lane::Lane;
pub use ledger::LedgerRow;
pub use line::Endpoint;
pub use money::Money;
pub use pause::{Hold, PauseReason};
pub use role::Role;
pub use schedule::{Schedule, ScheduleId};
pub use tags::Tags;
pub use usage::{Usage, UsageSource};
