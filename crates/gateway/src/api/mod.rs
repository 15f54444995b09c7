//! The native API, one module per noun.

pub mod alerts;
pub mod audit;
pub mod budgets;
pub mod calls;
pub mod change;
pub mod deployments;
pub mod events;
pub mod history;
pub mod jobs;
pub mod keys;
pub mod lanes;
pub mod ledger;
pub mod limits;
pub mod quotes;
pub mod reports;
pub mod results;
pub mod retry;
pub mod schedules;
pub mod submit;
pub mod teams;
pub mod upload;
pub mod webhook_secrets;
