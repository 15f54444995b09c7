//! The native API, one module per noun.

pub mod calls;
pub mod events;
pub mod jobs;
pub mod keys;
pub mod lanes;
pub mod limits;
pub mod reports;
pub mod results;
pub mod submit;
pub mod teams;
