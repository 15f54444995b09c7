//! The ledger as Parquet: export, compaction, and the proof that lake and ledger are equal.
//!
//! ```text
//! <lake>/_manifest.json                                    the live files; readers read these and no others
//! <lake>/hot/usage_date=2026-11-22/seg-7.parquet           one frozen segment, rows by attempt_id
//! <lake>/ledger/usage_date=2026-11-20/part-40-1.parquet    a sealed day, rows by (team, provider, model_billed, completed_at)
//! <lake>/ledger/usage_date=2026-11-20/seg-51.parquet       rows that came after their day was sealed
//! ```
//!
//! A file's name follows from its segments and its rows from the ledger, so a step that is repeated after a crash writes the
//! same thing; nothing is visible before it is whole, and nothing counts before the manifest lists it. Compaction removes the
//! files it replaced at once. A reader whose file is gone reads the manifest again.
//!
//! # Readers that take whole folders
//! `ledger/` alone is safe to glob: a sealed day appears there as a whole, and late rows are added to it once. `hot/` and
//! `ledger/` together are not: while a day is sealed its rows are in both, for as long as it takes to change the manifest and to
//! remove the files that were replaced.
//!
//! # Columns
//! Those of [`domain::LedgerRow`], in its order, in the plainest types: Utf8, Int32, Int64, Boolean, Timestamp(µs, UTC) and, for
//! money, Decimal128(18,12): the pico-USD of the ledger with the point set. `job_id` is the text the API shows. `usage_date` is
//! in the path only: as a column it would be there twice, with two types, for readers that take partitions from paths (pyarrow
//! refuses such a file, Spark and DuckDB let the path win). It is the UTC date of `completed_at`.
//!
//! # Memory
//! Rows are streamed. A file of one segment is one row group, which is held encoded until it is written; compaction sorts in
//! temporary files. Each step takes about 50 MB, however many rows a day has.

#![warn(clippy::unwrap_used)]

pub mod error;
pub mod storage;

pub mod columns;
pub mod digest;
pub mod file;

pub mod compact;
pub mod export;
mod replaced;
pub mod vectors;
pub mod verify;

pub use compact::{Compacted, compact};
pub use error::LakeError;
pub use export::{Exported, export, republish};
pub use storage::LakeStore;
pub use verify::{Difference, Verification, verify};

pub type Result<T, E = LakeError> = std::result::Result<T, E>;
