//! Vectors taken out of an answer's text, and put in the order of the inputs.

use base64::{
    Engine,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::floats::push_floats;
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
}

/// The answer with each vector replaced by the number of its row, and the rows.
pub(super) fn take_vectors(json: &str) -> Result<(Vec<u8>, Packed), Unfit> {
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
                    .ok_or(Unfit::garbage("has an embedding that is no array of numbers"))?;
                end
            }
            Some(b'"') => {
                let end = start + 1 + memchr::memchr(b'"', &bytes[start + 1..]).ok_or(Unfit::CUT)?;
                push_base64(&json[start + 1..end], &mut packed.data)
                    .ok_or(Unfit::garbage("has an embedding that is no base64 of 32-bit floats"))?;
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
            return Err(Unfit::garbage("has embeddings of no or of different length"));
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
    /// Row `i` as row `order[i]`, in the envelope too.
    pub fn ordered(self, envelope: Vec<u8>, order: Vec<u32>) -> (Vec<u8>, Vectors) {
        let (dims, count) = ((self.row_bytes / 4) as u32, self.rows as u32);
        if order.iter().enumerate().all(|(at, row)| at == *row as usize) {
            return (envelope, Vectors { dims, count, data: self.data.into() });
        }
        let mut data = vec![0; self.data.len()];
        for (row, place) in self.data.chunks_exact(self.row_bytes).zip(&order) {
            let start = *place as usize * self.row_bytes;
            data[start..start + self.row_bytes].copy_from_slice(row);
        }
        let mut renumbered = Vec::with_capacity(envelope.len());
        replace_rows(&envelope, &mut renumbered, |row, out| {
            let place = order.get(row as usize).copied().unwrap_or(row);
            out.extend_from_slice(place.to_string().as_bytes());
        });
        (renumbered, Vectors { dims, count, data: data.into() })
    }
}
