//! The ledger's columns, listed once: from the list follow the Arrow schema, the builders, the reader, the canonical bytes and
//! the comparison.

mod canonical;
mod kind;
mod list;
mod text;

pub use canonical::{decode, encode};
pub use list::{Builders, NAMES, Readers, differing, schema};
