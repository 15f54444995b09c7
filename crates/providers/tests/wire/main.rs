//! What the wire can do to a call: silence, drips, cuts, bombs and lies. Each must end as its own error, in bounded time
//! and memory.

#[path = "../support/mod.rs"]
mod support;

mod anthropic;
mod calls;
mod extras;
mod probe;
mod server;
mod streams;
