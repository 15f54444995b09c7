//! The rows of one day, on one side.

use std::ops::AddAssign;

use chrono::NaiveDate;
use domain::{
    LedgerRow,
    manifest::LakeFile,
    money::{Money, Total},
};
use serde::Serialize;
use store::{PgPool, export_segment};
use uuid::Uuid;

use crate::Result;

/// Rows of the ledger that are fetched at a time.
const PAGE: i64 = 2_000;

/// How many rows one side has, and what they cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Side {
    pub rows: u64,
    /// Sum of `contracted_cost`; unpriced rows add nothing.
    pub cost_usd: Total,
}

impl Side {
    pub(super) fn add_row(&mut self, row: &LedgerRow) {
        self.rows += 1;
        self.cost_usd = self.cost_usd + Money(row.contracted_cost.unwrap_or(0));
    }
}

impl AddAssign for Side {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.cost_usd.0 += other.cost_usd.0;
    }
}

/// The segments that the files of a day hold.
pub(super) fn segments(files: &[&LakeFile]) -> Vec<i64> {
    let mut ids: Vec<i64> = files.iter().flat_map(|file| file.segments.iter()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Hands over every row of the ledger that belongs to these segments.
pub(super) async fn ledger_rows(
    pool: &PgPool,
    day: NaiveDate,
    segments: &[i64],
    mut each: impl FnMut(LedgerRow),
) -> Result<()> {
    let mut after = Uuid::nil();
    loop {
        let page = export_segment::page(&mut *pool.acquire().await?, day, segments, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.attempt_id;
        page.into_iter().for_each(&mut each);
        tokio::task::yield_now().await;
    }
}
