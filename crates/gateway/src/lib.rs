//! All inbound HTTP of Tollway. `router.rs` lists every route; `api/` has one module per noun of the native API, `openai/`
//! one per endpoint of the compatible one. Handlers translate; the engine decides.

pub mod app;
pub mod router;
pub mod serve;

mod access;
mod anthropic;
mod auth;
mod connections;
mod drain;
mod entry;
mod input;
mod page;
mod peer;
mod problem;
mod standing;
mod suggest;

mod health;
mod openapi;
pub mod telemetry;

mod api;
mod openai;
mod report_process;
mod spool;

pub use app::App;
pub use report_process::Children;
pub use router::router;
pub use serve::serve;

#[cfg(test)]
mod tests;
