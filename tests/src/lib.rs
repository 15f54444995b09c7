//! What the stories are told with: real processes of `tollway`, a real PostgreSQL, and the oracle that looks at all of them
//! when a story has ended. Nothing here waits for a fixed time: everything is looked for until a deadline.
//!
//! A [`World`] is one gateway with a simulated provider and a database of its own. All worlds of a run share one private
//! cluster, except those that kill it. Whatever was started is ended by its process id when its owner is dropped, and by the
//! [`leash`] when the whole test run dies.

pub mod binary;
pub mod catalog;
pub mod client;
pub mod database;
pub mod gateway;
pub mod leash;
pub mod mutate;
pub mod oracle;
pub mod polling;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod receiver;
pub mod requests;
pub mod simulator;
pub mod skew;
pub mod world;

pub use client::{Answer, Client};
pub use database::Database;
pub use gateway::{Gateway, Setup};
pub use polling::{SOON, until};
pub use postgres::Postgres;
pub use simulator::Simulator;
pub use world::World;
