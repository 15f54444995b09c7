//! Embedding vectors: a function of the input, of length one, and cheap even at 1,536 floats.
//!
//! All vectors of one width share a list of magnitudes whose squares add up to 1. An input's fingerprint says where in the
//! list its vector begins and which components are negative. So the length is always one, the digits are written once
//! per width instead of once per answer, and two inputs are about orthogonal.

use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::rng::{Rng, fingerprint};
use crate::sync::locked;

/// `-0.123456789,` or `0.123456789,` and a byte that the next number overwrites. Copying a fixed size is what makes it quick.
type Digits = [u8; 13];

/// Vectors of one width. Each table has the numbers above zero first, then those below.
pub struct Vectors {
    values: [Box<[f32]>; 2],
    digits: [Box<[Digits]>; 2],
}

/// The vector that the simulator answers for `text`, for tests that check it.
#[must_use]
pub fn embedding(text: &str, dimensions: usize) -> Vec<f32> {
    let vectors = vectors(dimensions);
    vectors.floats(fingerprint(text.as_bytes()))
}

/// The vectors of a width. The few widths in use are kept.
pub fn vectors(dimensions: usize) -> Arc<Vectors> {
    static KEPT: Mutex<Vec<Arc<Vectors>>> = Mutex::new(Vec::new());
    let mut kept = locked(&KEPT);
    if let Some(vectors) = kept.iter().find(|v| v.width() == dimensions) {
        return vectors.clone();
    }
    let vectors = Arc::new(Vectors::new(dimensions));
    if kept.len() < 16 {
        kept.push(vectors.clone());
    }
    vectors
}

impl Vectors {
    fn new(dimensions: usize) -> Self {
        let mut rng = Rng::new(dimensions as u64, 0);
        let raw: Vec<f64> = (0..dimensions).map(|_| 0.25 + rng.fraction()).collect();
        let norm = raw.iter().map(|v| v * v).sum::<f64>().sqrt();
        let digits = |text: String| text.as_bytes().try_into().unwrap_or(*b"0.000000000, ");
        let above: Box<[Digits]> = raw.iter().map(|v| digits(format!("{:.9}, ", v / norm))).collect();
        let below = raw.iter().map(|v| digits(format!("-{:.9},", v / norm))).collect();
        // What is read back from the digits, so that both encodings carry the same floats.
        let value = |digits: &Digits| -> f32 {
            let text = std::str::from_utf8(&digits[..11]);
            text.ok().and_then(|text| text.parse().ok()).unwrap_or_default()
        };
        let values: Box<[f32]> = above.iter().map(value).collect();
        Self { values: [values.clone(), values.iter().map(|v| -v).collect()], digits: [above, below] }
    }

    fn width(&self) -> usize {
        self.values[0].len()
    }

    /// Appends the vector as a JSON array.
    pub fn write_json(&self, print: u64, out: &mut Vec<u8>) {
        out.push(b'[');
        let mut at = out.len();
        out.resize(at + self.width() * size_of::<Digits>(), 0);
        self.each(print, |n, negative| {
            let digits = &self.digits[usize::from(negative)][n];
            out[at..at + digits.len()].copy_from_slice(digits);
            at += digits.len() - usize::from(!negative);
        });
        out.truncate(at);
        // The last comma becomes the bracket.
        out.pop();
        out.push(b']');
    }

    /// Appends the vector as a JSON string: little-endian floats in base64, as OpenAI's SDKs ask for it.
    pub fn write_base64(&self, print: u64, out: &mut Vec<u8>) {
        let mut bytes = vec![0; 4 * self.width()];
        let mut places = bytes.as_chunks_mut().0.iter_mut();
        self.each(print, |n, negative| {
            if let Some(place) = places.next() {
                *place = self.values[usize::from(negative)][n].to_le_bytes();
            }
        });
        out.push(b'"');
        let at = out.len();
        out.resize(at + (bytes.len().div_ceil(3) * 4), 0);
        // There is room for all of it, so it cannot fail.
        let _ = STANDARD.encode_slice(&bytes, &mut out[at..]);
        out.push(b'"');
    }

    fn floats(&self, print: u64) -> Vec<f32> {
        let mut floats = Vec::with_capacity(self.width());
        self.each(print, |n, negative| floats.push(self.values[usize::from(negative)][n]));
        floats
    }

    /// Calls `take` for every component in order: its place in the tables, and whether it is below zero.
    fn each(&self, print: u64, mut take: impl FnMut(usize, bool)) {
        let mut rng = Rng::new(print, 1);
        let mut bits = 0;
        let width = self.width();
        let mut n = print.checked_rem(width as u64).unwrap_or(0) as usize;
        for component in 0..width {
            if component % 64 == 0 {
                bits = rng.roll();
            }
            take(n, bits & 1 == 1);
            bits >>= 1;
            n = if n + 1 == width { 0 } else { n + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }

    #[test]
    fn vectors_have_length_one_at_every_width() {
        for dimensions in [1, 2, 3, 64, 256, 1_536, 8_192] {
            let vector = embedding("a text", dimensions);
            assert_eq!(vector.len(), dimensions);
            assert!((dot(&vector, &vector) - 1.0).abs() < 1e-5, "width {dimensions}");
        }
    }

    #[test]
    fn equal_texts_have_equal_vectors_and_others_are_far_apart() {
        let [a, again, b] = ["a text", "a text", "a test"].map(|t| embedding(t, 1_536));
        assert_eq!(a, again);
        assert!(dot(&a, &b).abs() < 0.15, "cosine {}", dot(&a, &b));
    }

    #[test]
    fn json_and_base64_carry_the_same_floats() {
        let (vectors, print) = (vectors(100), fingerprint(b"a text"));
        let expected = embedding("a text", 100);

        let mut json = Vec::new();
        vectors.write_json(print, &mut json);
        assert_eq!(serde_json::from_slice::<Vec<f32>>(&json).expect("an array"), expected);

        let mut text = Vec::new();
        vectors.write_base64(print, &mut text);
        let text: String = serde_json::from_slice(&text).expect("a string");
        let bytes = STANDARD.decode(text).expect("base64");
        let floats: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        assert_eq!(floats, expected);
    }
}
