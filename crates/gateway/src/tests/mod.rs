//! The router with a real engine and a real database behind it.

mod alerts;
mod audit;
mod budgets;
mod isolation;
mod keys;
mod lanes;
mod limits;
mod roles;
mod serving;
mod world;
