//! The router with a real engine and a real database behind it.

mod alerts;
mod audit;
mod budgets;
mod connections;
mod entry;
mod isolation;
mod keys;
mod lanes;
mod limits;
mod matrix;
mod money;
mod roles;
mod serving;
mod standing;
mod world;
