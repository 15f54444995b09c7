//! A row as bytes that no library version changes: the date as days since 1970, then for each value that is present its column's
//! number and the value, little-endian, texts with their length before them. A column that was appended later and is null
//! leaves no trace, so hashes of old rows stay what they are.

use chrono::NaiveDate;
use domain::LedgerRow;

use super::{kind::take_bytes, list};

/// Appends the row's canonical bytes.
pub fn encode(row: &LedgerRow, out: &mut Vec<u8>) {
    out.extend_from_slice(&row.usage_date.to_epoch_days().to_le_bytes());
    list::put_all(row, out);
}

/// The row that [`encode`] wrote; `None` when the bytes are not exactly one row.
pub fn decode(mut bytes: &[u8]) -> Option<LedgerRow> {
    let usage_date = NaiveDate::from_epoch_days(i32::from_le_bytes(take_bytes(&mut bytes)?))?;
    let row = list::take_all(usage_date, &mut bytes)?;
    bytes.is_empty().then_some(row)
}
