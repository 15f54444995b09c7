//! Structure-aware mutation of JSON: a sound document, changed in a few places into what a caller might send by mistake or on purpose.
//! Everything follows from a seed, so that what was found can be made again.

use serde_json::{Map, Value};

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Rng(pub u64);

impl Rng {
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `end`, exclusive; 0 of nothing.
    pub fn below(&mut self, end: usize) -> usize {
        (self.number() % end.max(1) as u64) as usize
    }

    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// JSON that is unusual, and JSON that is none.
const EXTREMES: &[&str] = &[
    "null",
    "true",
    "false",
    "{}",
    "[]",
    "[[]]",
    "[{}]",
    "[null]",
    "{\"\":\"\"}",
    "0",
    "-0",
    "-1",
    "1",
    "0.5",
    "1e308",
    "1e999",
    "-1e999",
    "1E+2",
    "1e-400",
    "00",
    "2147483647",
    "2147483648",
    "-2147483649",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999",
    "NaN",
    "Infinity",
    "\"\"",
    "\" \"",
    "\"\\u0000\"",
    "\"a\\u0000b\"",
    "\"\\ud800\"",
    "\"\\udfff\\ud800\"",
    "\"\u{feff}\"",
    "\"\u{202e}\u{1f600}\"",
    "\"-1\"",
    "{\"a\":1,\"a\":2}",
];

/// A repeated value, in bytes.
const LONGEST: usize = 2 << 20;
/// In place of a value: it stands in the text as it is, for serde_json could not hold it.
const MARK: &str = "\u{e000}raw:";

/// The document as text, changed in one to four places.
pub fn mutated(document: &Value, rng: &mut Rng) -> Vec<u8> {
    let mut document = document.clone();
    for _ in 0..=rng.below(4) {
        let at = rng.below(count(&document));
        change(&mut document, at, rng);
    }
    let mut text = with_raw(&document.to_string(), rng);
    if rng.one_in(8) {
        garble(&mut text, rng);
    }
    text
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum(),
        _ => 0,
    }
}

/// Changes the node of this number, counted from the root.
fn change(value: &mut Value, at: usize, rng: &mut Rng) {
    if at == 0 {
        return change_here(value, rng);
    }
    let mut before = 1;
    let children: Box<dyn Iterator<Item = &mut Value>> = match value {
        Value::Array(list) => Box::new(list.iter_mut()),
        Value::Object(map) => Box::new(map.values_mut()),
        _ => return,
    };
    for child in children {
        let nodes = count(child);
        if at < before + nodes {
            return change(child, at - before, rng);
        }
        before += nodes;
    }
}

fn change_here(value: &mut Value, rng: &mut Rng) {
    match (value, rng.below(6)) {
        (Value::Object(map), 0) => {
            let key = map.keys().nth(rng.below(map.len())).cloned();
            key.and_then(|key| map.remove(&key));
        }
        (Value::Object(map), 1) => {
            let (from, to) =
                (map.keys().nth(rng.below(map.len())).cloned(), *rng.pick(&["", "job", "model", "a\0b", "ключ"]));
            if let Some(value) = from.and_then(|key| map.remove(&key)) {
                map.insert(to.to_owned(), value);
            }
        }
        (Value::Object(map), 2) => {
            map.insert(format!("more{}", rng.below(3)), extreme(rng));
        }
        (Value::Array(list), 0) if !list.is_empty() => drop(list.remove(rng.below(list.len()))),
        (Value::Array(list), 1) if !list.is_empty() => {
            let again = list[rng.below(list.len())].clone();
            let times = bounded(*rng.pick(&[1, 2, 300]), again.to_string().len());
            list.extend(std::iter::repeat_n(again, times));
        }
        (Value::String(text), 0) => *text = text.repeat(bounded(*rng.pick(&[0, 2, 50, 20_000]), text.len())),
        (Value::String(text), 1) => {
            text.insert(text.char_indices().nth(rng.below(text.len())).map_or(0, |(at, _)| at), '\0');
        }
        (value, 2) => *value = Value::Array(vec![value.take()]),
        (value, 3) => *value = Value::Object(Map::from_iter([("value".to_owned(), value.take())])),
        (value, 4) => *value = Value::String(value.to_string()),
        (value, _) => *value = extreme(rng),
    }
}

/// As many times as keep a body far below what a gateway reads of one that it refuses: changes are made on top of each other.
fn bounded(times: usize, bytes: usize) -> usize {
    times.min(LONGEST / bytes.max(1)).max(usize::from(times > 0))
}

fn extreme(rng: &mut Rng) -> Value {
    Value::String(format!("{MARK}{}", rng.below(EXTREMES.len() + 3)))
}

/// The extremes in place of their marks.
fn with_raw(text: &str, rng: &mut Rng) -> Vec<u8> {
    let mark = format!("\"{MARK}");
    let mut pieces = text.split(&mark);
    let mut whole = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (number, rest) = piece.split_once('"').unwrap_or((piece, ""));
        match number.parse::<usize>().ok().and_then(|number| EXTREMES.get(number)) {
            Some(raw) => whole += raw,
            None => {
                let depth = *rng.pick(&[100, 127, 128, 129, 5_000]);
                match rng.below(3) {
                    0 => whole += &("[".repeat(depth) + &"]".repeat(depth)),
                    1 => whole += &("{\"a\":".repeat(depth) + "1" + &"}".repeat(depth)),
                    _ => whole += &"7".repeat(depth),
                }
            }
        }
        whole += rest;
    }
    whole.into_bytes()
}

/// Damage that knows nothing of JSON.
fn garble(text: &mut Vec<u8>, rng: &mut Rng) {
    if text.is_empty() {
        return;
    }
    let at = rng.below(text.len());
    match rng.below(5) {
        0 => text.truncate(at),
        1 => text[at] ^= 1 << rng.below(8),
        2 => text.insert(at, *rng.pick(&[0, b'\n', b'\r', b'"', b'\\', 0xff, 0xc3])),
        3 => drop(text.remove(at)),
        _ => {
            let start = *rng.pick(&[b"\xef\xbb\xbf".as_slice(), b"\xff\xfe", b"\x1f\x8b", b"\n\n"]);
            drop(text.splice(0..0, start.iter().copied()));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_seed_says_what_comes_and_most_of_it_is_json() {
        let document =
            json!({"custom_id": "a", "body": {"model": "m", "messages": [{"role": "user", "content": "x"}], "n": 1}});
        let made = |seed: u64| mutated(&document, &mut Rng(seed));
        assert_eq!(made(7), made(7));
        let all: Vec<_> = (0..500).map(made).collect();
        let sound = all.iter().filter(|text| serde_json::from_slice::<Value>(text).is_ok()).count();
        assert!((200..480).contains(&sound), "{sound}");
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert!(distinct.len() > 400, "{}", distinct.len());
    }
}
