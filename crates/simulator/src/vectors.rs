//! Embedding vectors: a function of the input, of length one, and cheap even at 1,536 floats.
//!
//! All vectors of one width share a list of magnitudes whose squares add up to 1. An input's fingerprint says where in the
//! list its vector begins and which components are negative. So the length is always one, the digits are written once
//! per width instead of once per answer, and two inputs are about orthogonal.

use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::dice::{Dice, fingerprint};
use crate::sync::locked;

/// `-0.123456789,`: without its first byte, the same number above zero.
type Digits = [u8; 13];

pub struct Vectors {
    values: Box<[f32]>,
    digits: Box<[Digits]>,
}

/// The vector that the simulator answers for `text`, for tests that check it.
#[must_use]
pub fn embedding(text: &str, dimensions: usize) -> Vec<f32> {
    let vectors = vectors(dimensions);
    vectors.floats(fingerprint(text.as_bytes())).collect()
}

/// The vectors of a width. The few widths in use are kept.
pub fn vectors(dimensions: usize) -> Arc<Vectors> {
    static KEPT: Mutex<Vec<Arc<Vectors>>> = Mutex::new(Vec::new());
    let mut kept = locked(&KEPT);
    if let Some(vectors) = kept.iter().find(|v| v.values.len() == dimensions) {
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
        let mut dice = Dice::new(dimensions as u64, 0);
        let raw: Vec<f64> = (0..dimensions).map(|_| 0.25 + dice.fraction()).collect();
        let norm = raw.iter().map(|v| v * v).sum::<f64>().sqrt();
        let (mut values, mut digits) = (Vec::new(), Vec::new());
        for value in raw {
            let text = format!("-{:.9},", value / norm);
            let number: f32 = text[1..12].parse().unwrap_or_default();
            values.push(number);
            digits.push(text.as_bytes().try_into().unwrap_or(*b"-0.000000000,"));
        }
        Self { values: values.into(), digits: digits.into() }
    }

    /// Appends the vector as a JSON array.
    pub fn write_json(&self, print: u64, out: &mut Vec<u8>) {
        out.reserve(self.digits.len() * size_of::<Digits>() + 2);
        out.push(b'[');
        let mut signs = Signs::new(print);
        let (before, from) = self.digits.split_at(self.start(print));
        for digits in from.iter().chain(before) {
            match signs.negative() {
                true => out.extend_from_slice(digits),
                false => out.extend_from_slice(&digits[1..]),
            }
        }
        // The last comma becomes the bracket.
        out.pop();
        out.push(b']');
    }

    /// Appends the vector as a JSON string: little-endian floats in base64, as OpenAI's SDKs ask for it.
    pub fn write_base64(&self, print: u64, out: &mut Vec<u8>) {
        let bytes: Vec<u8> = self.floats(print).flat_map(f32::to_le_bytes).collect();
        out.push(b'"');
        out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
        out.push(b'"');
    }

    fn floats(&self, print: u64) -> impl Iterator<Item = f32> {
        let mut signs = Signs::new(print);
        let (before, from) = self.values.split_at(self.start(print));
        from.iter().chain(before).map(move |&value| match signs.negative() {
            true => -value,
            false => value,
        })
    }

    fn start(&self, print: u64) -> usize {
        (print % self.values.len().max(1) as u64) as usize
    }
}

/// An endless row of bits.
struct Signs {
    dice: Dice,
    bits: u64,
    left: u32,
}

impl Signs {
    fn new(print: u64) -> Self {
        Self { dice: Dice::new(print, 1), bits: 0, left: 0 }
    }

    fn negative(&mut self) -> bool {
        if self.left == 0 {
            self.bits = self.dice.roll();
            self.left = 64;
        }
        self.left -= 1;
        self.bits >> self.left & 1 == 1
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
