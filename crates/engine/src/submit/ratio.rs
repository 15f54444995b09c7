//! How much an upload may grow when it is unpacked. DEFLATE packs a run of equal bytes a thousandfold, so two megabytes on the
//! wire could keep a core busy with gigabytes of nothing. Text of requests, also of very similar ones, packs ten- to two-hundredfold.

use super::SubmitError;

/// Unpacked bytes for each packed one.
const MAX_RATIO: u64 = 400;
/// Unpacked bytes that are taken at any ratio: as much as a whole schedule, which was accepted unpacked.
const UNPACKED_FREE: u64 = 32 << 20;
/// Packed bytes that need not yield anything. Beyond, empty members of gzip and endless headers are refused: what yields less than
/// half of its packed size is not text.
const PACKED_FREE: u64 = 256 << 10;

/// Whether `packed` bytes, read so far, may have become `unpacked` ones.
pub fn check(packed: u64, unpacked: u64) -> Result<(), SubmitError> {
    if unpacked > UNPACKED_FREE && unpacked > packed.saturating_mul(MAX_RATIO) {
        return Err(SubmitError::Bomb { packed, unpacked, most: MAX_RATIO });
    }
    check_yield(packed, unpacked)
}

/// Whether `packed` bytes have become enough.
pub fn check_yield(packed: u64, unpacked: u64) -> Result<(), SubmitError> {
    if packed > PACKED_FREE && unpacked < packed / 2 { Err(SubmitError::Hollow { packed, unpacked }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(packed: u64, unpacked: u64) -> Option<SubmitError> {
        check(packed, unpacked).err()
    }

    #[test]
    fn text_passes_and_runs_of_one_byte_do_not() {
        assert!(refusal(2 << 20, 200 << 20).is_none(), "a hundredfold");
        assert!(refusal(30 << 10, 30 << 20).is_none(), "a thousandfold, but small");
        assert!(matches!(refusal(40 << 10, 40 << 20), Some(SubmitError::Bomb { packed: 40_960, .. })));
        assert!(matches!(refusal(2 << 20, 2 << 30), Some(SubmitError::Bomb { .. })));
    }

    #[test]
    fn packed_bytes_that_become_nothing_are_refused() {
        assert!(refusal(200 << 10, 0).is_none(), "a long header");
        assert!(matches!(refusal(300 << 10, 100), Some(SubmitError::Hollow { .. })));
        assert!(refusal(300 << 10, 299 << 10).is_none(), "random text grows a little");
    }
}
