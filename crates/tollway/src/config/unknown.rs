//! Parses serde's error about an unknown key, and finds the key that was probably meant.

/// `unknown field `slotz`, expected one of `slots`, `lease_s``, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    pub key: String,
    pub valid: Vec<String>,
}

pub fn parse(message: &str) -> Option<Unknown> {
    let rest = message.strip_prefix("unknown field `")?;
    let (key, rest) = rest.split_once('`')?;
    let valid = rest.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    Some(Unknown { key: key.to_owned(), valid })
}

/// A sentence's end: the nearest valid key, or all of them when none is near.
pub fn advice(unknown: &Unknown, parent: &str) -> String {
    let near = unknown
        .valid
        .iter()
        .map(|valid| (strsim::damerau_levenshtein(&unknown.key.to_lowercase(), valid), valid))
        .filter(|(distance, valid)| *distance <= 1 + valid.len().min(unknown.key.len()) / 3)
        .min_by_key(|(distance, _)| *distance);
    match near {
        Some((_, valid)) => format!("did you mean {}?", join(parent, valid)),
        None if parent.is_empty() => format!("the sections are {}", unknown.valid.join(", ")),
        None => format!("the keys of {parent} are {}", unknown.valid.join(", ")),
    }
}

pub fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serdes_words_are_taken_apart() {
        let one = parse("unknown field `a`, expected `b`").unwrap();
        assert_eq!((one.key.as_str(), one.valid), ("a", vec!["b".to_owned()]));
        let two = parse("unknown field `a`, expected `b` or `c`").unwrap();
        assert_eq!(two.valid, ["b", "c"]);
        let many = parse("unknown field `a`, expected one of `b`, `c`, `d`").unwrap();
        assert_eq!(many.valid, ["b", "c", "d"]);
        assert_eq!(parse("missing field `model`"), None);
    }
}
