//! Sums of a day's rows by attempt. An attempt's bucket comes from the random end of its id, so buckets are equally full.

use domain::LedgerRow;
use uuid::Uuid;

use super::Side;
use crate::digest::Digest;

const BUCKETS: usize = 4096;

pub struct Buckets {
    sums: Vec<Digest>,
    side: Side,
}

/// Buckets in which two sides differ; never empty lists of rows to compare, at most a few thousand rows each for ten million.
pub struct Differing(Vec<usize>);

pub fn bucket(attempt_id: Uuid) -> usize {
    let bytes = attempt_id.as_bytes();
    usize::from(u16::from_be_bytes([bytes[14], bytes[15]])) % BUCKETS
}

impl Buckets {
    pub fn new() -> Self {
        Self { sums: vec![Digest::default(); BUCKETS], side: Side::default() }
    }

    pub fn add(&mut self, row: &LedgerRow) -> Digest {
        let digest = Digest::of(row);
        self.sums[bucket(row.attempt_id)] += digest;
        self.side.add_row(row);
        digest
    }

    pub fn side(&self) -> Side {
        self.side
    }

    /// The buckets that differ, cut off where both sides together have more rows than can be held in memory.
    pub fn differing(&self, other: &Self) -> Differing {
        const MOST_ROWS: u64 = 10_000;
        let mut rows = 0;
        let mut found = Vec::new();
        for (n, (a, b)) in self.sums.iter().zip(&other.sums).enumerate() {
            if a != b {
                rows += a.rows + b.rows;
                if rows > MOST_ROWS && !found.is_empty() {
                    break;
                }
                found.push(n);
            }
        }
        Differing(found)
    }
}

impl Differing {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub fn has(&self, attempt_id: Uuid) -> bool {
        self.0.binary_search(&bucket(attempt_id)).is_ok()
    }
}
