//! The router with a real engine and a real database behind it.

mod isolation;
mod keys;
mod roles;
mod serving;
mod world;
