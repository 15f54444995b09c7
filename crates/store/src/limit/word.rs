//! Messages between replicas about limits and budgets. A lost message costs only time: every replica also polls four
//! times a second.

use std::fmt;

/// The channel on which replicas notify one another.
pub const CHANNEL: &str = "tollway_limits";

/// More than this are named in no message: PostgreSQL takes 8,000 bytes.
const MOST: usize = 300;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// A replica is short of these limits: the others say what they use of them, and give back the rest.
    Asked { by: i64, limits: Vec<i64> },
    /// A replica gave something of these limits back, and another is short of it.
    Freed { by: i64, limits: Vec<i64> },
    /// A replica is short of these budgets: the others give back what is free.
    Short { by: i64, budgets: Vec<i64> },
}

impl Word {
    pub fn is_empty(&self) -> bool {
        let (Self::Asked { limits: ids, .. } | Self::Freed { limits: ids, .. } | Self::Short { budgets: ids, .. }) =
            self;
        ids.is_empty()
    }

    /// `None`: it is of another version.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let (verb, by, ids) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
        let ids = ids.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
        match verb {
            "asked" => Some(Self::Asked { by, limits: ids }),
            "freed" => Some(Self::Freed { by, limits: ids }),
            "short" => Some(Self::Short { by, budgets: ids }),
            _ => None,
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, by, ids) = match self {
            Self::Asked { by, limits } => ("asked", by, limits),
            Self::Freed { by, limits } => ("freed", by, limits),
            Self::Short { by, budgets } => ("short", by, budgets),
        };
        write!(f, "{verb} {by} ")?;
        for (n, id) in ids.iter().take(MOST).enumerate() {
            write!(f, "{}{id}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_read_as_it_is_written() {
        let (two, one) = (vec![1, 2], vec![9]);
        for word in [
            Word::Asked { by: 7, limits: two.clone() },
            Word::Freed { by: -1, limits: one },
            Word::Short { by: 7, budgets: two },
        ] {
            assert_eq!(Word::parse(&word.to_string()), Some(word));
        }
        for other in ["", "asked", "asked 7", "asked 7 ", "asked x 1", "gone 7 1", "asked 7 1,x"] {
            assert_eq!(Word::parse(other), None, "{other:?}");
        }
        let many = Word::Asked { by: i64::MIN, limits: vec![i64::MAX; 1_000] };
        assert!(many.to_string().len() < 8_000);
    }
}
