//! The way of a request. Modules stand in the order in which it meets them; `Engine` is what they share.

pub mod engine;
pub mod clock;
pub mod catalog;

pub mod admit;
pub mod submit;
pub mod limits;
pub mod claim;
pub mod work;
pub mod route;
pub mod call;
pub mod meter;
pub mod settle;
pub mod direct;
pub mod jobs;
pub mod results;
pub mod webhook;
pub mod upkeep;

pub use engine::{Engine, Settings};
