//! A sum over rows by which files are compared without being sorted: the number of rows, and the sum modulo 2²⁵⁶ of the
//! SHA-256 of each row's canonical bytes. The sum of the segments of a day is the sum of the compacted day.

use std::ops::AddAssign;

use domain::LedgerRow;
use sha2::{Digest as _, Sha256};

use crate::columns;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digest {
    pub rows: u64,
    /// Least significant first.
    sum: [u64; 4],
}

impl Digest {
    /// Of one row, given by its canonical bytes.
    pub fn of_bytes(canonical: &[u8]) -> Self {
        let hash: [u8; 32] = Sha256::digest(canonical).into();
        let mut sum = [0; 4];
        for (limb, bytes) in sum.iter_mut().rev().zip(hash.chunks_exact(8)) {
            *limb = bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        }
        Self { rows: 1, sum }
    }

    pub fn of(row: &LedgerRow) -> Self {
        let mut bytes = Vec::with_capacity(768);
        columns::encode(row, &mut bytes);
        Self::of_bytes(&bytes)
    }

    /// The content hash that manifest, footer and `segment` carry: 64 hex digits.
    pub fn hash(&self) -> String {
        let [a, b, c, d] = self.sum;
        format!("{d:016x}{c:016x}{b:016x}{a:016x}")
    }

    /// From what [`Digest::hash`] gave; `None` when it is no such text.
    pub fn parse(rows: u64, hash: &str) -> Option<Self> {
        if hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut sum = [0; 4];
        for (n, limb) in sum.iter_mut().rev().enumerate() {
            *limb = u64::from_str_radix(&hash[n * 16..n * 16 + 16], 16).ok()?;
        }
        Some(Self { rows, sum })
    }
}

impl AddAssign for Digest {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        let mut carry = 0u128;
        for (limb, more) in self.sum.iter_mut().zip(other.sum) {
            let total = u128::from(*limb) + u128::from(more) + carry;
            *limb = total as u64;
            carry = total >> 64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_hashes_as_sha256_does() {
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of_bytes(b"abc").hash(), known);
        assert_eq!(Digest::parse(1, known), Some(Digest::of_bytes(b"abc")));
    }

    #[test]
    fn order_does_not_matter_and_repetition_does() {
        let add = |words: &[&str]| {
            words.iter().fold(Digest::default(), |mut sum, word| {
                sum += Digest::of_bytes(word.as_bytes());
                sum
            })
        };
        assert_eq!(add(&["a", "b", "c"]), add(&["c", "a", "b"]));
        assert_ne!(add(&["a", "b"]).hash(), add(&["a", "b", "b"]).hash());
        assert_ne!(add(&["a", "a"]).hash(), add(&["b", "b"]).hash());
    }

    #[test]
    fn a_sum_carries() {
        let mut most = Digest { rows: 1, sum: [u64::MAX; 4] };
        most += Digest { rows: 1, sum: [1, 0, 0, 0] };
        assert_eq!(most, Digest { rows: 2, sum: [0; 4] });
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        assert_eq!(Digest::parse(1, "abc"), None);
        assert_eq!(Digest::parse(1, &"+".repeat(64)), None);
    }
}
