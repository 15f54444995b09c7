//! Whether packed bytes can be an embedding of little-endian 32-bit floats. Some servers pack doubles, or the other byte order: read
//! wrongly, those are finite numbers too, and a corpus of them finds nothing.

/// No model's embedding has a component beyond this; misread bytes have one soon.
const LARGEST: f32 = 1e6;
/// Nor is a good part of it as small as this and not zero.
const TINY: f32 = 1e-25;
/// From this width on, numbers that all lie within two powers of two are no coincidence.
const WIDE: usize = 16;
/// From this width on, misread bytes give themselves away by a number that is too large. A length of 1 proves nothing there: the pairs
/// of a valid vector whose components lie around 1, read as doubles, are each at most 0.5, and some of their sums of squares lie near 1.
const TOLD_BY_SIZE: usize = 32;

pub(super) fn is_embedding(row: &[u8]) -> bool {
    let floats = || row.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    let (mut others, mut tiny) = (0, 0);
    for size in floats().map(f32::abs).filter(|size| *size > 0.0) {
        if size > LARGEST {
            return false;
        }
        if size < TINY { tiny += 1 } else { others += 1 }
    }
    tiny <= others / 3
        && !are_halves_of_doubles(floats)
        && (floats().count() >= TOLD_BY_SIZE || is_unit(floats().map(f64::from), 0.02) || !is_unit_otherwise(row))
}

/// Doubles of embeddings: every second number holds the sign, the exponent and the first digits, and lies around 1. The numbers between
/// them hold further digits, or zero, and lie anywhere.
fn are_halves_of_doubles<I: Iterator<Item = f32>>(floats: impl Fn() -> I) -> bool {
    let count = floats().count();
    if count < 4 || count % 2 == 1 {
        return false;
    }
    let (low, high) = (|| floats().step_by(2), || floats().skip(1).step_by(2));
    let is_around_one = |float: &f32| (0.1..2.0).contains(&float.abs());
    let high_is_around_one = high().filter(|float| *float != 0.0).all(|float| is_around_one(&float));
    let low_is_not = low().filter(is_around_one).count() < count / 4;
    let is_told_by_width = count >= WIDE && low_is_not;
    high_is_around_one && high().any(|float| float != 0.0) && (is_told_by_width || low().all(|float| float == 0.0))
}

/// Most models give vectors of length 1. `tolerance`: how far the sum of squares may be from 1.
fn is_unit(numbers: impl Iterator<Item = f64>, tolerance: f64) -> bool {
    let squares: f64 = numbers.map(|number| number * number).sum();
    (squares - 1.0).abs() < tolerance
}

/// Whether the row has length 1 as doubles or in the other byte order. A model that normalises does so to the precision of its floats;
/// a wider tolerance would reject valid vectors whose misread length is near 1 by coincidence.
fn is_unit_otherwise(row: &[u8]) -> bool {
    let big = row.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_be_bytes(*bytes)));
    if is_unit(big, 1e-4) {
        return true;
    }
    let (doubles, rest) = row.as_chunks::<8>();
    rest.is_empty()
        && (is_unit(doubles.iter().map(|bytes| f64::from_le_bytes(*bytes)), 1e-4)
            || is_unit(doubles.iter().map(|bytes| f64::from_be_bytes(*bytes)), 1e-4))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packed(floats: &[f64], pack: impl Fn(f64) -> Vec<u8>) -> Vec<u8> {
        floats.iter().flat_map(|float| pack(*float)).collect()
    }

    /// Every form but the right one is recognised.
    fn check(floats: &[f64]) {
        assert!(is_embedding(&packed(floats, |x| (x as f32).to_le_bytes().to_vec())), "{floats:?}");
        assert!(!is_embedding(&packed(floats, |x| (x as f32).to_be_bytes().to_vec())), "big-endian {floats:?}");
        assert!(!is_embedding(&packed(floats, |x| x.to_le_bytes().to_vec())), "doubles {floats:?}");
        assert!(!is_embedding(&packed(floats, |x| f64::from(x as f32).to_le_bytes().to_vec())), "widened {floats:?}");
        assert!(!is_embedding(&packed(floats, |x| x.to_be_bytes().to_vec())), "big-endian doubles {floats:?}");
    }

    #[test]
    fn doubles_and_the_other_byte_order_are_recognised() {
        check(&[0.1, 0.2, -0.3, 0.4, 0.5, -0.6, 0.7, 0.8]);
        check(&[0.5, 0.25]);
        check(&[0.6, -0.8]);
    }

    #[test]
    fn a_valid_vector_whose_length_as_doubles_is_near_1_is_taken() {
        // Pairs of 1.5 read as doubles are 0.125 each, pairs of 1.75 are 0.5 each: on the way the sum of their squares passes 1.
        let taken = (0..4000).all(|step| {
            let component = 1.5 + f64::from(step) / 8000.0;
            is_embedding(&packed(&[component; 64], |x| (x as f32).to_le_bytes().to_vec()))
                && is_embedding(&packed(&[component; 100], |x| (x as f32).to_le_bytes().to_vec()))
        });
        assert!(taken);
    }

    #[test]
    fn what_a_model_may_say_is_taken() {
        for floats in [&[0.0, 0.0][..], &[1.0], &[0.25, 0.0, 3.5, -120.0], &[1e-20, 0.0], &[0.0, 1.0, 0.0, 30.0]] {
            assert!(is_embedding(&packed(floats, |x| (x as f32).to_le_bytes().to_vec())), "{floats:?}");
        }
    }

    proptest! {
        #[test]
        fn embeddings_of_any_model_are_told_apart(
            floats in proptest::collection::vec(-1.0f64..1.0, 64..200),
            length in prop_oneof![Just(None), (0.5f64..30.0).prop_map(Some)],
        ) {
            let norm = floats.iter().map(|x| x * x).sum::<f64>().sqrt();
            let scale = length.unwrap_or(1.0) / norm;
            check(&floats.iter().map(|x| x * scale).collect::<Vec<_>>());
        }
    }
}
