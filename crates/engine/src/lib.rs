//! The way of a request. Modules stand in the order in which it meets them; `Engine` is what they share.

pub mod engine;
pub mod fence;
pub mod roles;
pub mod running;
pub mod stops;

pub mod admit;
pub mod call;
pub mod claim;
pub mod correct;
pub mod direct;
mod failover;
pub mod jobs;
pub mod keys;
pub mod lanes;
pub mod meter;
pub mod quote;
pub mod results;
pub mod route;
pub mod schedules;
pub mod settle;
pub mod submit;
pub mod teams;
pub mod upkeep;
pub mod work;

#[cfg(test)]
mod testing;

pub use engine::{Connections, Engine, Settings, Start};
pub use roles::Roles;
pub use running::Running;
