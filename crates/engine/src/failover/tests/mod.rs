//! The loop as a whole: jobs and synchronous calls of a running engine, against a provider that fails on command.

mod cases;
mod faults;
mod world;
