//! Lists of decimal numbers as f32, fast: a reindex job reads thousands of them a call.

/// As many digits as a u64 takes, whatever they are.
const MOST_DIGITS: usize = 19;
/// The powers of ten that f64 holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// Appends each number of `list`, the inside of a JSON array, as a little-endian f32: the nearest one, half to even.
/// `None` when there is anything but numbers that a finite f32 can stand for.
pub(super) fn push_floats(list: &str, out: &mut Vec<u8>) -> Option<()> {
    let mut rest = list.as_bytes();
    out.reserve(rest.len() / 2);
    loop {
        rest = rest.trim_ascii_start();
        let (float, length) = fast(rest).or_else(|| slow(rest))?;
        out.extend_from_slice(&float.to_le_bytes());
        rest = rest[length..].trim_ascii_start();
        match rest.split_first() {
            None => return Some(()),
            Some((b',', after)) => rest = after,
            Some(_) => return None,
        }
    }
}

/// The number that `text` begins with and its length, unless it has an exponent, is long, or is hard to tell.
fn fast(text: &[u8]) -> Option<(f32, usize)> {
    let start = usize::from(text.first() == Some(&b'-'));
    let (mut whole, mut at) = digits(text, start, 0);
    if at == start {
        return None;
    }
    let mut significant = if whole == 0 { 0 } else { at - start };
    let mut places = 0;
    if text.get(at) == Some(&b'.') {
        let point = at + 1;
        at = point;
        if whole == 0 {
            at += text[point..].iter().take_while(|byte| **byte == b'0').count();
        }
        let first = at;
        (whole, at) = digits(text, first, whole);
        if at == point {
            return None;
        }
        (significant, places) = (significant + at - first, at - point);
    }
    if significant > MOST_DIGITS || matches!(text.get(at), Some(b'e' | b'E')) {
        return None;
    }
    // Two roundings: at most two units off in the last place. Unless that close to the middle between two f32, the nearest
    // f32 is the same.
    let value = whole as f64 / POWERS.get(places)?;
    let middle = (value.to_bits() & 0x1fff_ffff).abs_diff(0x1000_0000);
    (middle > 4).then_some((if start == 1 { -value } else { value } as f32, at))
}

/// `whole` with the digits from `at` on appended, and where they end.
fn digits(text: &[u8], mut at: usize, mut whole: u64) -> (u64, usize) {
    while let Some(digit) = text.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        whole = whole.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    (whole, at)
}

/// The same by the standard library, for any JSON number.
fn slow(text: &[u8]) -> Option<(f32, usize)> {
    let part = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    let length = text.iter().take_while(|byte| part(byte)).count();
    if !matches!(text.first(), Some(b'-' | b'0'..=b'9')) {
        return None;
    }
    let float: f32 = std::str::from_utf8(&text[..length]).ok()?.parse().ok()?;
    float.is_finite().then_some((float, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn floats(list: &str) -> Option<Vec<f32>> {
        let mut out = Vec::new();
        push_floats(list, &mut out)?;
        Some(out.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }

    #[test]
    fn lists_are_read() {
        assert_eq!(floats("1"), Some(vec![1.0]));
        assert_eq!(floats(" 0.25 ,\n-3,1e-3,-2.5E+1 "), Some(vec![0.25, -3.0, 0.001, -25.0]));
        assert_eq!(floats("-0").map(|list| list[0].is_sign_negative()), Some(true));
        for bad in
            ["", ",", "1,", "1 2", "+1", ".5", "-", "NaN", "inf", "-inf", "1e99", "null", "1.2.3", "0x1", "\"1\""]
        {
            assert_eq!(floats(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_number_between_two_floats_goes_to_the_nearer() {
        // Just above, at, and just below the middle of 1 and the next f32.
        let three = "1.00000005960464478,1.000000059604644775390625,1.00000005960464477";
        assert_eq!(floats(three), Some(vec![1.0000001, 1.0, 1.0]));
        assert_eq!(floats("16777217,16777219"), Some(vec![16_777_216.0, 16_777_220.0]));
    }

    proptest! {
        #[test]
        fn every_decimal_is_read_as_the_standard_library_reads_it(text in "-?(0|[1-9][0-9]{0,9})(\\.0{0,9}[0-9]{1,20})?(e-?[0-9])?") {
            let expected: f32 = text.parse().unwrap();
            prop_assert_eq!(floats(&text).map(|list| list[0].to_bits()), Some(expected.to_bits()));
        }

        #[test]
        fn short_texts_of_floats_are_exact(float in -1.0f32..1.0) {
            prop_assert_eq!(floats(&float.to_string()), Some(vec![float]));
            prop_assert_eq!(floats(&f64::from(float).to_string()), Some(vec![float]));
        }
    }
}
