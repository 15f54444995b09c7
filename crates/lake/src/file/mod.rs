//! One Parquet file of ledger rows.

mod read;
mod write;

pub use read::{Rows, digest_of};
pub use write::{FileWriter, Order, ROW_GROUP};
