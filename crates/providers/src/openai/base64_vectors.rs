//! Vectors taken out of an answer's text, and put in the order of the inputs.

use base64::{
    Engine,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::{answer::Bad, floats::push_floats, plausible};
use crate::{
    client::Unfit,
    vectors::{Vectors, replace_rows, values},
};

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Rows of equal length, in the order in which they were found.
#[derive(Default)]
pub(super) struct Packed {
    pub rows: usize,
    row_bytes: usize,
    data: Vec<u8>,
    /// Some of them came in base64.
    pub is_base64: bool,
}

/// The answer with each vector replaced by the number of its row, and the rows.
pub(super) fn take_vectors(json: &str) -> Result<(Vec<u8>, Packed), Bad> {
    let bytes = json.as_bytes();
    let mut envelope = Vec::with_capacity(512);
    let mut packed = Packed::default();
    let mut copied = 0;
    for start in values(bytes) {
        if start < copied {
            continue;
        }
        let end = match bytes.get(start) {
            Some(b'[') => {
                let end = start + memchr::memchr(b']', &bytes[start..]).ok_or(Unfit::CUT)?;
                push_floats(&json[start + 1..end], &mut packed.data)
                    .ok_or_else(|| Unfit::garbage("has an embedding that is no array of numbers"))?;
                end
            }
            Some(b'"') => {
                let end = start + 1 + memchr::memchr(b'"', &bytes[start + 1..]).ok_or(Unfit::CUT)?;
                packed.is_base64 = true;
                push_base64(&json[start + 1..end], &mut packed.data).ok_or_else(|| {
                    Bad::Encoding(Unfit::garbage("has an embedding that is no base64 of 32-bit floats"))
                })?;
                end
            }
            // No vector: found out when the rows are counted.
            _ => continue,
        };
        let new = packed.data.len() - packed.rows * packed.row_bytes;
        if packed.rows == 0 {
            packed.row_bytes = new;
        }
        if new == 0 || new != packed.row_bytes {
            return Err(Unfit::garbage("has embeddings of no or of different length").into());
        }
        envelope.extend_from_slice(&bytes[copied..start]);
        envelope.extend_from_slice(packed.rows.to_string().as_bytes());
        packed.rows += 1;
        copied = end + 1;
    }
    envelope.extend_from_slice(&bytes[copied..]);
    Ok((envelope, packed))
}

fn push_base64(text: &str, out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    // Some serialisers write a slash as \/.
    match text.contains('\\') {
        true => BASE64.decode_vec(text.replace("\\/", "/"), out).ok()?,
        false => BASE64.decode_vec(text, out).ok()?,
    }
    let (floats, rest) = out[start..].as_chunks::<4>();
    (rest.is_empty() && floats.iter().all(|bytes| f32::from_le_bytes(*bytes).is_finite())).then_some(())
}

impl Packed {
    pub fn dims(&self) -> u32 {
        (self.row_bytes / 4) as u32
    }

    /// Whether the rows can be embeddings. All rows of an answer are written alike, so two of them tell.
    pub fn is_plausible(&self) -> bool {
        let last = (self.rows - 1) * self.row_bytes;
        plausible::is_embedding(&self.data[..self.row_bytes]) && plausible::is_embedding(&self.data[last..])
    }

    /// Row `i` as row `order[i]`.
    pub fn ordered(self, order: &[u32]) -> Vectors {
        let (dims, count) = (self.dims(), self.rows as u32);
        if is_sorted(order) {
            return Vectors { dims, count, data: self.data.into() };
        }
        let mut data = vec![0; self.data.len()];
        for (row, place) in self.data.chunks_exact(self.row_bytes).zip(order) {
            let start = *place as usize * self.row_bytes;
            data[start..start + self.row_bytes].copy_from_slice(row);
        }
        Vectors { dims, count, data: data.into() }
    }
}

fn is_sorted(order: &[u32]) -> bool {
    order.iter().enumerate().all(|(at, place)| at == *place as usize)
}

/// The envelope with item `i`, a slice of it, in the place of item `order[i]`: callers take embeddings as they stand.
pub(super) fn sorted(envelope: &str, items: &[&str], order: &[u32]) -> Option<Vec<u8>> {
    if is_sorted(order) {
        return None;
    }
    let mut sorted = vec![""; items.len()];
    for (item, place) in items.iter().zip(order) {
        *sorted.get_mut(*place as usize)? = item;
    }
    let mut out = Vec::with_capacity(envelope.len());
    let mut copied = 0;
    for (old, new) in items.iter().zip(sorted) {
        let start = old.as_ptr() as usize - envelope.as_ptr() as usize;
        out.extend_from_slice(envelope.get(copied..start)?.as_bytes());
        out.extend_from_slice(new.as_bytes());
        copied = start + old.len();
    }
    out.extend_from_slice(envelope.get(copied..)?.as_bytes());
    let mut renumbered = Vec::with_capacity(out.len());
    replace_rows(&out, &mut renumbered, |row, out| {
        let place = order.get(row as usize).copied().unwrap_or(row);
        out.extend_from_slice(place.to_string().as_bytes());
    });
    Some(renumbered)
}
